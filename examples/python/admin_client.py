"""A client of the admin API: makes a tenant with keys, lists and verifies them, and cleans up.

Usage: KEYSTILE_API_KEY=ks_live_... python admin_client.py [HOST:PORT]
"""

import os
import pathlib
import sys
import uuid

import grpc

# grpc_tools finds the schemas where Python finds modules.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "proto"))
key_pb, key_rpc = grpc.protos_and_services("keystile/admin/v1/key.proto")
tenant_pb, tenant_rpc = grpc.protos_and_services("keystile/admin/v1/tenant.proto")
status_pb = grpc.protos("google/rpc/status.proto")
details_pb = grpc.protos("google/rpc/error_details.proto")


def explain(error: grpc.RpcError) -> str:
    """The stable reason of an error and the fields that were refused."""
    reason, fields = error.code().name, []
    for name, value in error.trailing_metadata() or ():
        if name != "grpc-status-details-bin":
            continue
        for detail in status_pb.Status.FromString(value).details:
            info, bad = details_pb.ErrorInfo(), details_pb.BadRequest()
            if detail.Unpack(info):
                reason = info.reason
            elif detail.Unpack(bad):
                fields = [violation.field for violation in bad.field_violations]
    return f"{error.details()} ({': '.join([reason, *fields])})"


def tour(channel: grpc.Channel, credentials: list) -> None:
    tenants = tenant_rpc.TenantServiceStub(channel)
    keys = key_rpc.KeyServiceStub(channel)

    def call(method, request):
        return method(request, metadata=credentials, timeout=10)

    tenant = call(tenants.CreateTenant, tenant_pb.CreateTenantRequest(tenant_id="example-python"))
    print(f"made {tenant.name}")
    try:
        # With a request_id a create can be sent again until it is answered.
        create = key_pb.CreateKeyRequest(
            parent=tenant.name,
            key=key_pb.Key(display_name="ci", owner="alice", scopes=["read"]),
            request_id=str(uuid.uuid4()),
        )
        made = call(keys.CreateKey, create)
        assert call(keys.CreateKey, create).plaintext == made.plaintext
        print(f"made {made.key.name}, once")

        batch = key_pb.BatchCreateKeysRequest(parent=tenant.name)
        for owner in ("bob", "carol", "not an owner"):
            batch.requests.add(key=key_pb.Key(display_name=f"key of {owner}", owner=owner))
        for result in call(keys.BatchCreateKeys, batch).results:
            if result.WhichOneof("result") == "created":
                print(f"made {result.created.key.name}")
            else:
                print(f"refused: {result.error.message}")

        request = key_pb.ListKeysRequest(parent=tenant.name, page_size=2, filter="state = ACTIVE")
        while True:
            page = call(keys.ListKeys, request)
            for key in page.keys:
                print(f"  {key.key_id}  {key.key_prefix}  {key.owner}")
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token

        verify = key_pb.VerifyKeyRequest(token=made.plaintext)
        print(f"valid: {call(keys.VerifyKey, verify).valid}")
        call(keys.RevokeKey, key_pb.RevokeKeyRequest(name=made.key.name, reason="example is over"))
        print(f"valid once revoked: {call(keys.VerifyKey, verify).valid}")
    finally:
        delete = tenant_pb.DeleteTenantRequest(name=tenant.name, etag=tenant.etag)
        call(tenants.DeleteTenant, delete)
        print(f"deleted {tenant.name} with its keys")


def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9002"
    key = os.environ.get("KEYSTILE_API_KEY")
    if not key:
        sys.exit("set KEYSTILE_API_KEY to the key of a global_admin")
    with grpc.insecure_channel(address) as channel:
        try:
            tour(channel, [("authorization", f"Bearer {key}")])
        except grpc.RpcError as error:
            sys.exit(explain(error))


if __name__ == "__main__":
    main()
