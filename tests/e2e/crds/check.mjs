// check.mjs FOLDER < {file: [document]}: holds every document whose kind has types in FOLDER/node_modules against them.
//
// By their TypeScript, because the packages' own validators let unknown fields pass, and so does the compiler beneath an
// intersection; then by these validators too, which know patterns and lengths. Prints the kinds that were held as JSON,
// and the mistakes on stderr.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

// Their validator is older than what the kind allows: it refuses every filter of type ExternalAuth.
const TYPES_ALONE = new Set(["gateway.networking.k8s.io/v1 HTTPRoute"]);
const PACKAGES = ["cert-manager", "gateway-api", "istio", "prometheus-operator"];

const folder = resolve(process.argv[2]);
const ts = createRequire(join(folder, "package.json"))("typescript");
let input = "";
for await (const piece of process.stdin) input += piece;

const held = new Set();
const mistakes = [];
const lines = [];
const where = [];
const values = [];
const seen = new Set();
for (const [file, documents] of Object.entries(JSON.parse(input))) {
  for (const document of documents) {
    const module = PACKAGES.map((name) => `@kubernetes-models/${name}/${document.apiVersion}/${document.kind}.js`)
      .find((path) => existsSync(join(folder, "node_modules", path)));
    const text = JSON.stringify(document);
    if (!module || seen.has(text)) continue;
    seen.add(text);
    const kind = `${document.apiVersion} ${document.kind}`;
    held.add(kind);
    // One line a document, so that a line of the compiler's is a document of ours.
    const type = `import("./node_modules/${module}").I${document.kind}`;
    lines.push(`export const d${lines.length}: ${type} = ${text};`);
    where.push(`${file}: ${kind}`);
    values.push(document);
    if (TYPES_ALONE.has(kind)) continue;
    const model = await import(pathToFileURL(join(folder, "node_modules", module)));
    try {
      new model[document.kind](document).validate();
    } catch (error) {
      mistakes.push(`${file}: ${kind}: ${error.message}`);
    }
  }
}

const source = join(folder, "manifests.ts");
const options = {
  strict: true, noEmit: true, skipLibCheck: true, target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext,
};
// In memory: two runs would write into one file.
const host = ts.createCompilerHost(options);
const { fileExists, getSourceFile, readFile } = host;
const written = lines.join("\n") + "\n";
host.fileExists = (name) => name === source || fileExists(name);
host.readFile = (name) => (name === source ? written : readFile(name));
host.getSourceFile = (name, target, ...more) =>
  name === source ? ts.createSourceFile(name, written, target) : getSourceFile(name, target, ...more);
const program = ts.createProgram([source], options, host);
for (const found of ts.getPreEmitDiagnostics(program)) {
  const at = found.file ? found.file.getLineAndCharacterOfPosition(found.start).line : 0;
  mistakes.push(`${where[at]}: ${ts.flattenDiagnosticMessageText(found.messageText, " ")}`);
}

// Every field of a value must be one of its type, however that is put together.
const checker = program.getTypeChecker();
function walk(value, type, path, found) {
  const known = checker.getNonNullableType(type);
  if (value === null || typeof value !== "object" || known.flags & (ts.TypeFlags.Any | ts.TypeFlags.Unknown)) return;
  if (Array.isArray(value)) {
    const item = checker.getIndexTypeOfType(known, ts.IndexKind.Number);
    value.forEach((entry, at) => item && walk(entry, item, `${path}[${at}]`, found));
    return;
  }
  const any = checker.getIndexTypeOfType(known, ts.IndexKind.String);
  // `{}` is what somebody else's schema is about, such as Envoy's.
  if (!any && checker.getPropertiesOfType(known).length === 0) return;
  for (const [name, entry] of Object.entries(value)) {
    const parts = known.isUnion() ? known.types : [known];
    const fields = parts.map((part) => checker.getPropertyOfType(part, name)).filter(Boolean);
    if (fields.length > 0) walk(entry, checker.getTypeOfSymbol(fields[0]), `${path}.${name}`, found);
    else if (any) walk(entry, any, `${path}.${name}`, found);
    else found.push(`${path}.${name} is no field of it`);
  }
}
program.getSourceFile(source).statements.forEach((statement, at) => {
  const found = [];
  const type = checker.getTypeAtLocation(statement.declarationList.declarations[0]);
  walk(values[at], type, "", found);
  mistakes.push(...found.map((what) => `${where[at]}: ${what}`));
});
process.stdout.write(JSON.stringify([...held].sort()));
for (const mistake of mistakes) process.stderr.write(`${mistake}\n`);
process.exitCode = mistakes.length > 0 ? 1 : 0;
