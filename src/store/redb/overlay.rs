//! A file that can be written to without being changed: writes stay in memory.
//!
//! `redb` repairs a file while it opens it. Under an overlay it can do so, and we can read what comes out, before
//! one byte of the real file is touched.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;

use parking_lot::RwLock;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

const BLOCK_LEN: usize = 4096;
/// The same, to count in a file.
const BLOCK: u64 = BLOCK_LEN as u64;
type Block = [u8; BLOCK_LEN];

#[derive(Debug)]
struct Written {
    len: u64,
    /// The end of what may be read from the file; what lies beyond is zero, also after growing again.
    file_len: u64,
    blocks: BTreeMap<u64, Box<Block>>,
}

#[derive(Debug)]
pub(super) struct Overlay {
    file: FileBackend,
    written: RwLock<Written>,
}

impl Overlay {
    pub(super) fn over(file: FileBackend) -> io::Result<Self> {
        let len = file.len()?;
        let written = RwLock::new(Written {
            len,
            file_len: len,
            blocks: BTreeMap::new(),
        });
        Ok(Self { file, written })
    }

    /// The block at `number` as it now is.
    fn block(&self, written: &Written, number: u64) -> io::Result<Box<Block>> {
        if let Some(block) = written.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = Box::new([0; BLOCK_LEN]);
        let start = number * BLOCK;
        let in_file = written.file_len.saturating_sub(start).min(BLOCK);
        let in_file = usize::try_from(in_file).map_err(io::Error::other)?;
        if in_file > 0 {
            self.file.read(start, &mut block[..in_file])?;
        }
        Ok(block)
    }
}

/// The parts of `[offset, offset + len)` that lie in one block each: its number, where in the block, how long.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        // Less than a block, so it fits.
        let inside = usize::try_from(at % BLOCK).ok()?;
        let part = (len - done).min(BLOCK_LEN - inside);
        done += part;
        (part > 0).then_some((at / BLOCK, inside, part))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written.read().len)
    }

    fn read(&self, offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        let written = self.written.read();
        if offset.saturating_add(out.len() as u64) > written.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, inside, part) in parts(offset, out.len()) {
            let (head, rest) = out.split_at_mut(part);
            head.copy_from_slice(&self.block(&written, number)?[inside..inside + part]);
            out = rest;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written.write();
        if len < written.len {
            let cut = len / BLOCK;
            let mut kept = self.block(&written, cut)?;
            for (_, inside, part) in parts(len, BLOCK_LEN).take(1) {
                kept[inside..inside + part].fill(0);
            }
            written.blocks.split_off(&cut);
            written.blocks.insert(cut, kept);
            written.file_len = written.file_len.min(len);
        }
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, mut data: &[u8]) -> io::Result<()> {
        let mut written = self.written.write();
        let end = offset.saturating_add(data.len() as u64);
        for (number, inside, part) in parts(offset, data.len()) {
            let (head, rest) = data.split_at(part);
            let mut block = self.block(&written, number)?;
            block[inside..inside + part].copy_from_slice(head);
            written.blocks.insert(number, block);
            data = rest;
        }
        written.len = written.len.max(end);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    // Locks are the file's: nobody may write to it while we look.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let write = (0..20_000u64, prop::collection::vec(any::<u8>(), 1..9000));
        prop::collection::vec(
            prop_oneof![
                write.prop_map(|(at, data)| Step::Write(at, data)),
                (0..20_000u64).prop_map(Step::SetLen),
            ],
            0..12,
        )
    }

    fn size(len: u64) -> usize {
        usize::try_from(len).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_reads_like_a_file_and_the_file_below_stays(steps in steps(), file_len in 0..10_000usize) {
            let original = vec![7; file_len];
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&original).unwrap();
            let backend = FileBackend::new(file.reopen().unwrap()).unwrap();
            let overlay = Overlay::over(backend).unwrap();

            let mut expected = original.clone();
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        let end = size(at) + data.len();
                        expected.resize(expected.len().max(end), 0);
                        expected[size(at)..end].copy_from_slice(&data);
                        overlay.write(at, &data).unwrap();
                    }
                    Step::SetLen(len) => {
                        expected.resize(size(len), 0);
                        overlay.set_len(len).unwrap();
                    }
                }
            }
            let mut seen = vec![1; size(overlay.len().unwrap())];
            overlay.read(0, &mut seen).unwrap();
            prop_assert!(seen == expected);
            prop_assert!(overlay.read(1, &mut seen).is_err() || seen.is_empty());
            prop_assert!(std::fs::read(file.path()).unwrap() == original);
        }
    }
}
