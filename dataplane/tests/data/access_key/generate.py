"""Requests signed by independent clients, for the tests of `auth::access_key`.

Writes aws4.json, sdk.json, http_signature.json and cavage.json beside itself; the dates are fixed, so a second
run changes nothing. Made with Python 3.11 and

    pip install botocore==1.44.5 huaweicloudsdkcore==3.1.219 http-message-signatures==3.0.0

AWS4 is signed by botocore (what it signs, header by header, is its own choice), SDK by huaweicloudsdkcore,
HTTP signatures by http-message-signatures. Nobody maintains a client of draft-cavage-http-signatures-12: its
signer is the one in this file, written from the draft, and its first case is the draft's own example of a
signing string (Appendix C.3) under HMAC.
"""

import base64
import datetime
import hashlib
import hmac
import json
import pathlib
import types
from email.utils import formatdate
from urllib.parse import urlsplit

import botocore.auth
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPSignatureKeyResolver,
    algorithms,
)
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
UNIX = int(NOW.timestamp())
KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
JSON = b'{"sku": "a-1", "count": 3}'
botocore.auth.get_current_datetime = lambda *_, **__: NOW


def case(name, method, url, headers, body=b"", optional=False):
    return {
        "name": name,
        "method": method,
        "url": url,
        "headers": [[name, value] for name, value in headers],
        "body": base64.b64encode(body).decode(),
        "signedBody": "Optional" if optional else "Required",
    }


def write(name, cases):
    data = {"now": UNIX, "keyId": KEY_ID, "secret": SECRET, "cases": cases}
    path = HERE / f"{name}.json"
    path.write_text(json.dumps(data, indent=1, ensure_ascii=True) + "\n")
    print(f"{path.name}: {len(cases)} requests")


# AWS4 ------------------------------------------------------------------------------------------------------


def aws4(name, auth, service, method, url, headers=(), body=b"", optional=False, params=None, **context):
    credentials = Credentials(KEY_ID, SECRET, context.pop("token", None))
    request = AWSRequest(method=method, url=url, data=body, params=params)
    for key, value in headers:
        request.headers[key] = value
    request.context.update(context)
    auth(credentials, service, "eu-central-1").add_auth(request)
    prepared = request.prepare()
    sent = [
        (key, value.decode() if isinstance(value, bytes) else value)
        for key, value in prepared.headers.items()
        if key.lower() not in ("content-length", "host")
    ]
    return case(name, method, prepared.url, sent, body, optional)


def aws4_cases():
    host = "http://api.example.com"
    tls = "https://api.example.com"
    # Not `/a/b/..`: botocore signs `/a` for it, where RFC 3986 §5.2.4 says `/a/`.
    paths = [
        ("the root", "/"),
        ("a path", "/orders/17"),
        ("a path that ends with a slash", "/orders/"),
        ("an escaped space", "/a%20b/c"),
        ("escaped UTF-8", "/%E1%88%B4"),
        ("a literal that others escape", "/a@b;v=1/c:d"),
        ("an escape of an escape", "/a%2520b"),
        ("escapes of what others leave plain", "/a%3Bb%40c%3Ad/%2Be%2Cf%3Dg%26h"),
        ("a doubled slash", "/a//b"),
        ("dot segments", "/a/./b/../c"),
        ("all unreserved characters", "/-._~0123456789ABCXYZabcxyz"),
    ]
    queries = [
        ("a query", "?a=1&b=2"),
        ("a query out of order", "?b=2&a=1&a=0&A=3"),
        ("a name without a value", "?acl&b="),
        ("an escaped query", "?q=a%20b%2Bc&%E1%88%B4=%2F"),
        ("names that sort by their escapes", "?a%2Bb=1&a-b=2&ab=3&a=4"),
    ]
    for service, auth in (("execute-api", SigV4Auth), ("s3", S3SigV4Auth)):
        for name, path in paths:
            yield aws4(f"{service}: {name}", auth, service, "GET", host + path)
        for name, query in queries:
            yield aws4(f"{service}: {name}", auth, service, "GET", f"{host}/orders{query}")
        yield aws4(
            f"{service}: parameters of the request", auth, service, "GET", f"{host}/orders",
            params={"z": "a b+c/d~e", "a": "1", "é": "ü"},
        )
        yield aws4(
            f"{service}: headers", auth, service, "PUT", f"{host}/orders",
            headers=[("Content-Type", "application/json"), ("X-Note", "  two   spaces "), ("X-Empty", "")],
            body=JSON,
        )
        yield aws4(f"{service}: a port", auth, service, "GET", "http://api.example.com:8080/orders")
        yield aws4(f"{service}: a session token", auth, service, "GET", host + "/", token="token/==")
        yield aws4(f"{service}: a body", auth, service, "POST", f"{host}/orders?x=1", body=JSON)
        yield aws4(f"{service}: DELETE", auth, service, "DELETE", f"{host}/orders/17")
        yield aws4(f"{service}: a date of its own", auth, service, "GET", host + "/", headers=[("Date", "now")])
        yield aws4(f"{service}: https", auth, service, "GET", tls + "/orders")
    yield aws4(
        "execute-api: a body that need not be signed", SigV4Auth, "execute-api", "POST", tls + "/orders",
        body=JSON, optional=True, payload_signing_enabled=False,
    )
    for name, path in paths:
        yield aws4(f"presigned, s3: {name}", S3SigV4QueryAuth, "s3", "GET", host + path)
        yield aws4(f"presigned, execute-api: {name}", SigV4QueryAuth, "execute-api", "GET", host + path)
    yield aws4("presigned, s3: a query", S3SigV4QueryAuth, "s3", "GET", host + "/a?b=2&a=1")
    yield aws4("presigned, s3: a session token", S3SigV4QueryAuth, "s3", "GET", host + "/a", token="t/o+k=")
    yield aws4("presigned, s3: a body", S3SigV4QueryAuth, "s3", "PUT", host + "/a", body=JSON, optional=True)


# SDK -------------------------------------------------------------------------------------------------------


def sdk(name, method, path, query=(), headers=(), body=b"", optional=False):
    sent = {"X-Sdk-Date": NOW.strftime("%Y%m%dT%H%M%SZ"), **dict(headers)}
    request = SdkRequest(
        method=method, schema="https", host="ecs.example.com", resource_path=path, query_params=list(query),
        header_params=sent, body=body,
    )
    Signer(types.SimpleNamespace(ak=KEY_ID, sk=SECRET)).sign(request)
    fields = [(key, value) for key, value in request.header_params.items() if key.lower() != "host"]
    return case(name, method, f"https://ecs.example.com{request.uri}", fields, body, optional)


def sdk_cases():
    kind = {"Content-Type": "application/json;charset=UTF-8"}
    yield sdk("the root", "GET", "/")
    yield sdk("a path", "GET", "/v3/projects/1")
    yield sdk("a path that ends with a slash", "GET", "/v3/projects/")
    yield sdk("an escaped path", "GET", "/v3/a%20b/%E1%88%B4")
    yield sdk("escapes of what others leave plain", "GET", "/v3/a%3Bb%40c%3Ad/%2Be%2Cf%3Dg%26h")
    yield sdk("a query", "GET", "/v3", query=[("b", "2"), ("a", "1"), ("a", "0")])
    yield sdk("a query that is escaped", "GET", "/v3", query=[("a b", "c+d/e~"), ("a-b", "2"), ("ü", "é")])
    yield sdk("a list in the query", "GET", "/v3", query=[("id", ["3", "1", "2"]), ("flag", True)])
    yield sdk("headers", "GET", "/v3", headers={"X-Project-Id": " 7 ", "X-Note": "two  spaces", **kind})
    yield sdk("a body", "POST", "/v3/servers", headers=kind, body=JSON)
    yield sdk("a body with its digest", "POST", "/v3/servers", body=JSON,
              headers={**kind, "X-Sdk-Content-Sha256": hashlib.sha256(JSON).hexdigest()})
    yield sdk("a body of another type", "PUT", "/v3/a", headers={"Content-Type": "text/plain"}, body=b"hello",
              optional=True)
    yield sdk("no body of another type", "PUT", "/v3/a", headers={"Content-Type": "text/plain"})
    yield sdk("DELETE", "DELETE", "/v3/servers/17", headers=kind)


# HTTP message signatures -----------------------------------------------------------------------------------


class Resolver(HTTPSignatureKeyResolver):
    def resolve_public_key(self, key_id):
        return SECRET.encode()

    def resolve_private_key(self, key_id):
        return SECRET.encode()


def message(name, method, url, covered, headers=(), body=b"", label="sig1", optional=False, **more):
    request = types.SimpleNamespace(method=method, url=url, headers={"Host": urlsplit(url).netloc, **dict(headers)})
    signer = HTTPMessageSigner(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=Resolver())
    more["use_existing_digest"] = "Content-Digest" in dict(headers)
    signer.sign(request, key_id=KEY_ID, created=NOW, label=label, covered_component_ids=covered, **more)
    fields = [(key, value) for key, value in request.headers.items() if key.lower() != "host"]
    return case(name, method, url, fields, body, optional)


def content_digest(body, names=("sha-256",)):
    hashes = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
    return ", ".join(f"{name}=:{base64.b64encode(hashes[name](body).digest()).decode()}:" for name in names)


def message_cases():
    host = "http://shop.example.com"
    short = ("@method", "@target-uri")
    long = ("@method", "@authority", "@path", "@query")
    for name, target in [
        ("the root", "/"), ("a path", "/orders/17"), ("an escaped path", "/a%20b/%E1%88%B4"),
        ("a query", "/orders?b=2&a=1&a=0"), ("an escaped query", "/orders?q=a%20b%2Bc&x"),
    ]:
        yield message(f"target-uri: {name}", "GET", host + target, short)
        yield message(f"parts: {name}", "GET", host + target, long)
    yield message("https", "GET", "https://shop.example.com/orders", short)
    yield message("a port", "GET", "http://shop.example.com:8080/orders", short)
    yield message("no algorithm", "GET", host + "/orders", short, include_alg=False)
    yield message("expires, nonce and tag", "GET", host + "/orders", long, nonce="n-1", tag="shop",
                  expires=NOW + datetime.timedelta(seconds=60))
    yield message("headers", "GET", host + "/orders", (*long, "x-note", "date"),
                  headers={"X-Note": "a, b", "Date": formatdate(UNIX, usegmt=True)})
    yield message("a request target", "GET", host + "/orders?a=1", ("@method", "@authority", "@request-target"))
    for names in (("sha-256",), ("sha-512",), ("sha-512", "sha-256")):
        yield message(f"a body: {names}", "POST", host + "/orders", (*short, "content-digest", "content-type"),
                      headers={"Content-Digest": content_digest(JSON, names), "Content-Type": "application/json"},
                      body=JSON)
    yield message("a body that need not be signed", "POST", host + "/orders", short, body=JSON, optional=True)


# draft-cavage-http-signatures-12 -----------------------------------------------------------------------------


def cavage(name, method, url, names, headers=(), body=b"", algorithm="hmac-sha256", created=None, expires=None,
           optional=False):
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    fields = {"host": parts.netloc, **{key.lower(): value for key, value in dict(headers).items()}}
    lines = []
    for part in names:
        value = {
            "(request-target)": f"{method.lower()} {target}",
            "(created)": str(created),
            "(expires)": str(expires),
        }.get(part, fields.get(part))
        lines.append(f"{part}: {value}")
    mac = hmac.new(SECRET.encode(), "\n".join(lines).encode(), hashlib.sha256).digest()
    told = [f'keyId="{KEY_ID}"']
    if algorithm:
        told.append(f'algorithm="{algorithm}"')
    if created:
        told.append(f"created={created}")
    if expires:
        told.append(f"expires={expires}")
    told.append(f'headers="{" ".join(names)}"')
    told.append(f'signature="{base64.b64encode(mac).decode()}"')
    sent = [*dict(headers).items(), ("Authorization", "Signature " + ",".join(told))]
    return case(name, method, url, sent, body, optional)


def cavage_cases():
    host = "http://example.com"
    date = {"Date": formatdate(UNIX, usegmt=True)}
    dated = ("(request-target)", "host", "date")
    hello = b'{"hello": "world"}'
    digest = "SHA-256=" + base64.b64encode(hashlib.sha256(hello).digest()).decode()
    assert digest == "SHA-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=", "that of the draft"
    yield cavage("the request of Appendix C", "POST", host + "/foo?param=value&pet=dog",
                 (*dated, "content-type", "digest", "content-length"),
                 headers={**date, "Content-Type": "application/json", "Digest": digest, "Content-Length": "18"},
                 body=hello)
    for name, target in [("the root", "/"), ("a path", "/orders/17"), ("an escaped path", "/a%20b"),
                         ("a query", "/orders?b=2&a=1&a=0")]:
        yield cavage(name, "GET", host + target, dated, headers=date)
    timed = ("(request-target)", "(created)", "host")
    yield cavage("hs2019", "GET", host + "/", timed, algorithm="hs2019", created=UNIX)
    yield cavage("no algorithm", "GET", host + "/", timed, algorithm=None, created=UNIX)
    yield cavage("an end", "GET", host + "/", (*timed, "(expires)"), algorithm="hs2019", created=UNIX,
                 expires=UNIX + 60)
    yield cavage("a port", "GET", "http://example.com:8080/", dated, headers=date)
    yield cavage("an empty header", "GET", host + "/", (*dated, "x-empty"), headers={**date, "X-Empty": ""})
    both = digest + ",SHA-512=" + base64.b64encode(hashlib.sha512(hello).digest()).decode()
    yield cavage("two digests", "POST", host + "/", (*dated, "digest"), headers={**date, "Digest": both}, body=hello)
    yield cavage("a body that need not be signed", "POST", host + "/", dated, headers=date, body=hello,
                 optional=True)


if __name__ == "__main__":
    write("aws4", list(aws4_cases()))
    write("sdk", list(sdk_cases()))
    write("http_signature", list(message_cases()))
    write("cavage", list(cavage_cases()))
