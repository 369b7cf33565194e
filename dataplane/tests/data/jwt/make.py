"""Makes tokens.json and jwks.json: tokens by PyJWT and cryptography, an implementation that is not Hale's.

    pip install pyjwt cryptography && python make.py

Private keys are made anew each time and not kept. `exp` of good tokens is in the year 2100.
"""

import base64, hashlib, hmac, json

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

FAR = 4102444800
GOOD = {"iss": "https://issuer.test", "aud": "shop", "sub": "alice", "exp": FAR, "iat": 1700000000}


def b64(data):
    data = data if isinstance(data, bytes) else data.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value, length=None):
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


RSA = rsa.generate_private_key(65537, 2048)
RSA_2 = rsa.generate_private_key(65537, 3072)
SMALL = rsa.generate_private_key(65537, 1024)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
ED = ed25519.Ed25519PrivateKey.generate()
STRANGER = ec.generate_private_key(ec.SECP256R1())
SECRET = hashlib.sha512(b"a secret of the tests alone").digest()


def rsa_jwk(key, **more):
    n = key.public_key().public_numbers()
    return {"kty": "RSA", "n": number(n.n), "e": number(n.e), **more}


def ec_jwk(key, **more):
    n = key.public_key().public_numbers()
    size = (key.curve.key_size + 7) // 8
    crv = {256: "P-256", 384: "P-384", 521: "P-521"}[key.curve.key_size]
    return {"kty": "EC", "crv": crv, "x": number(n.x, size), "y": number(n.y, size), **more}


def ed_jwk(key, **more):
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(raw), **more}


KEYS = [
    rsa_jwk(RSA, kid="rsa", use="sig"),
    rsa_jwk(RSA_2, kid="rsa-2", alg="RS256", key_ops=["verify"]),
    rsa_jwk(SMALL, kid="small"),
    rsa_jwk(rsa.generate_private_key(65537, 2048), kid="enc", use="enc"),
    ec_jwk(P256, kid="p256", alg="ES256"),
    ec_jwk(P384, kid="p384"),
    ec_jwk(P521, kid="p521"),
    ed_jwk(ED, kid="ed", alg="EdDSA"),
]
OCT = {"kty": "oct", "kid": "oct", "k": b64(SECRET)}


def es256(message):
    r, s = decode_dss_signature(P256.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def raw(header, claims, sign=es256):
    """A token of exactly these texts."""
    header = header if isinstance(header, (str, bytes)) else json.dumps(header)
    claims = claims if isinstance(claims, (str, bytes)) else json.dumps(claims)
    message = b64(header) + "." + b64(claims)
    return message + "." + b64(sign(message.encode()))


ES = {"alg": "ES256", "kid": "p256"}
GOOD_TEXT = json.dumps(GOOD)
good = lambda **more: {**GOOD, **more}
without = lambda name: {k: v for k, v in GOOD.items() if k != name}
mac = lambda secret: lambda message: hmac.new(secret, message, "sha256").digest()
pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
der = RSA.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
fixed = lambda data: lambda message: data
token = raw(ES, GOOD)
h, c, s = token.split(".")
other = raw(ES, good(sub="bob")).split(".")
stranger = jwt.encode(GOOD, STRANGER, "ES256", {"kid": "p256"})
stranger_jwk = ec_jwk(STRANGER)

hostile = []


def add(name, outcome, token):
    hostile.append({"name": name, "outcome": outcome, "token": token})


for alg in ["none", "None", "NONE", "nOnE", "none ", "", "null", "NULL", "HS256none", "rs256", "es256", "ES256 ", "ES512", "ES256K", "A128KW", "dir"]:
    add(f"alg {alg!r}, no signature", "NotForUs", b64(json.dumps({"alg": alg})) + "." + c + ".")
    add(f"alg {alg!r}, signed", "NotForUs", raw({"alg": alg, "kid": "p256"}, GOOD))
for alg in [None, 1, ["ES256"], {"ES256": 1}, True]:
    add(f"alg {alg!r}", "Malformed", raw({"alg": alg, "kid": "p256"}, GOOD))
add("no alg", "Malformed", raw({"kid": "p256"}, GOOD))
for kid in ["rsa", None]:
    header = {"alg": "HS256", **({"kid": kid} if kid else {})}
    add(f"HS256 by the RSA key as PEM, kid {kid}", "NotForUs", raw(header, GOOD, mac(pem)))
    add(f"HS256 by the RSA key as DER, kid {kid}", "NotForUs", raw(header, GOOD, mac(der)))
    add(f"HS256 by its n, kid {kid}", "NotForUs", raw(header, GOOD, mac(KEYS[0]["n"].encode())))
add("HS256 by nothing", "NotForUs", raw({"alg": "HS256", "kid": "rsa"}, GOOD, mac(b"")))
add("RS256 by a P-256 key", "NotForUs", raw({"alg": "RS256", "kid": "p256"}, GOOD))
add("ES256 by an RSA key", "NotForUs", raw({"alg": "ES256", "kid": "rsa"}, GOOD))
add("ES384 by a P-256 key", "NotForUs", raw({"alg": "ES384", "kid": "p256"}, GOOD))
add("RS512 by a key for RS256", "NotForUs", jwt.encode(GOOD, RSA_2, "RS512", {"kid": "rsa-2"}))
add("PS256 by a key for RS256", "NotForUs", jwt.encode(GOOD, RSA_2, "PS256", {"kid": "rsa-2"}))
add("PS256 signature called RS256", "WrongCredential", raw({"alg": "RS256", "kid": "rsa"}, GOOD, lambda m: RSA.sign(m, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())))
add("RS512 signature called RS256", "WrongCredential", raw({"alg": "RS256", "kid": "rsa"}, GOOD, lambda m: RSA.sign(m, padding.PKCS1v15(), hashes.SHA512())))
add("RSA key of 1024 bits", "UnknownConsumer", jwt.encode(GOOD, SMALL, "RS256", {"kid": "small"}))
add("key of P-521", "NotForUs", jwt.encode(GOOD, P521, "ES512", {"kid": "p521"}))
add("key for encryption", "UnknownConsumer", raw({"alg": "RS256", "kid": "enc"}, GOOD, fixed(b"x" * 256)))
add("another's key under our kid", "WrongCredential", stranger)
add("another's key without kid", "WrongCredential", jwt.encode(GOOD, STRANGER, "ES256"))
add("another's key in jwk", "WrongCredential", jwt.encode(GOOD, STRANGER, "ES256", {"kid": "p256", "jwk": stranger_jwk}))
add("another's key in jwk, no kid", "WrongCredential", jwt.encode(GOOD, STRANGER, "ES256", {"jwk": stranger_jwk}))
for name in ["jku", "x5u"]:
    add(f"another's key in {name}", "WrongCredential", jwt.encode(GOOD, STRANGER, "ES256", {"kid": "p256", name: "http://127.0.0.1:1/keys"}))
add("another's key in x5c", "WrongCredential", jwt.encode(GOOD, STRANGER, "ES256", {"kid": "p256", "x5c": ["MIIB"]}))
for kid in ["../../../../dev/null", "/dev/null", "p256' OR '1'='1", "p256'; DROP TABLE keys; --", "' UNION SELECT 'k", "P256", "p256 ", " p256", "p256\u0000", "p256\n", "$(id)", "p25\u0036x", "", "http://127.0.0.1/"]:
    add(f"kid {kid!r}", "UnknownConsumer", raw({"alg": "ES256", "kid": kid}, GOOD))
add("kid of /dev/null, by nothing", "NotForUs", raw({"alg": "HS256", "kid": "/dev/null"}, GOOD, mac(b"")))
for kid in [None, 0, ["p256"], {}, "k" * 257]:
    add(f"kid {str(kid)[:20]!r}", "Malformed", raw({"alg": "ES256", "kid": kid}, GOOD))
add("crit exp", "Malformed", raw({**ES, "crit": ["exp"], "exp": FAR}, GOOD))
add("crit empty", "Malformed", raw({**ES, "crit": []}, GOOD))
add("crit b64", "Malformed", raw({**ES, "crit": ["b64"], "b64": False}, GOOD))
add("b64 false", "Malformed", raw({**ES, "b64": False}, GOOD))
message = h_b64 = b64(json.dumps({**ES, "b64": False, "crit": ["b64"]}))
add("claims not encoded", "Malformed", h_b64 + "." + GOOD_TEXT + "." + b64(es256((h_b64 + "." + GOOD_TEXT).encode())))
add("zip", "Malformed", raw({**ES, "zip": "DEF"}, GOOD))
add("enc", "Malformed", raw({**ES, "enc": "A128GCM"}, GOOD))
add("typ of another kind", "Malformed", raw({**ES, "typ": "secevent+jwt"}, GOOD))
add("typ logout", "Malformed", raw({**ES, "typ": "logout+jwt"}, GOOD))
add("typ number", "Malformed", raw({**ES, "typ": 1}, GOOD))
add("header twice alg", "Malformed", raw('{"alg":"none","alg":"ES256","kid":"p256"}', GOOD))
add("header twice alg, escaped", "Malformed", raw('{"alg":"ES256","\\u0061lg":"none","kid":"p256"}', GOOD))
add("header twice kid", "Malformed", raw('{"alg":"ES256","kid":"x","kid":"p256"}', GOOD))
add("header array", "Malformed", raw("[]", GOOD))
add("header text", "Malformed", raw('"ES256"', GOOD))
add("header empty", "Malformed", raw("", GOOD))
add("header not UTF-8", "Malformed", raw(b'{"alg":"ES256","kid":"p256","x":"\xff"}', GOOD))
add("header of 3 KiB", "Malformed", raw({**ES, "x": "y" * 3000}, GOOD))
add("header deep", "Malformed", raw('{"alg":"ES256","kid":"p256","x":' + "[" * 600 + "]" * 600 + "}", GOOD))
add("header with BOM", "Malformed", raw(b"\xef\xbb\xbf" + json.dumps(ES).encode(), GOOD))
add("header with more behind it", "Malformed", raw(json.dumps(ES) + "{}", GOOD))
for exp in [str(FAR), None, True, [FAR], {"a": FAR}, -1, -FAR, FAR * 1000000, 1e300, -0.5]:
    add(f"exp {exp!r}", "Malformed", raw(ES, good(exp=exp)))
for exp in ["1e400", "NaN", "Infinity", "0x7fffffff", "4102444800.", "+4102444800", "99999999999999999999999999"]:
    add(f"exp {exp}", "Malformed", raw(ES, GOOD_TEXT.replace(f'"exp": {FAR}', f'"exp": {exp}')))
add("no exp", "Malformed", raw(ES, without("exp")))
add("exp 0", "Expired", raw(ES, good(exp=0)))
add("exp long ago", "Expired", jwt.encode(good(exp=1700000000), P256, "ES256", {"kid": "p256"}))
add("exp long ago, with a fraction", "Expired", raw(ES, good(exp=1700000000.5)))
add("nbf in 2090", "NotYetValid", jwt.encode(good(nbf=3786912000), P256, "ES256", {"kid": "p256"}))
for name in ["nbf", "iat"]:
    for value in ["1", None, [1], True, -5]:
        add(f"{name} {value!r}", "Malformed", raw(ES, good(**{name: value})))
for exp in ["exp", "\\u0065xp", "ex\\u0070"]:
    add(f"twice exp, once {exp}", "Malformed", raw(ES, GOOD_TEXT[:-1] + f', "{exp}": {FAR + 1}' + "}"))
add("exp of another case", "Malformed", raw(ES, {**without("exp"), "EXP": FAR}))
add("twice sub", "Malformed", raw(ES, GOOD_TEXT[:-1] + ', "sub": "root"}'))
add("twice in an inner object", "Malformed", raw(ES, GOOD_TEXT[:-1] + ', "x": {"a": 1, "a": 2}}'))
add("issuer with slash", "NotForUs", raw(ES, good(iss="https://issuer.test/")))
add("issuer of another case", "NotForUs", raw(ES, good(iss="https://ISSUER.test")))
add("issuer longer", "NotForUs", raw(ES, good(iss="https://issuer.test.evil.test")))
add("issuer with NUL", "NotForUs", raw(ES, good(iss="https://issuer.test\u0000")))
add("issuer array", "NotForUs", raw(ES, good(iss=["https://issuer.test"])))
add("issuer null", "NotForUs", raw(ES, good(iss=None)))
add("no issuer", "NotForUs", raw(ES, without("iss")))
add("audience of another", "NotForUs", raw(ES, good(aud="bank")))
add("audiences of others", "NotForUs", raw(ES, good(aud=["bank", "shop2"])))
add("audience with more", "NotForUs", raw(ES, good(aud="shop bank")))
add("audience empty", "NotForUs", raw(ES, good(aud=[])))
add("no audience", "NotForUs", raw(ES, without("aud")))
add("audience object", "Malformed", raw(ES, good(aud={"shop": True})))
add("audience of mixed kinds", "Malformed", raw(ES, good(aud=["shop", 1])))
add("sub number", "Malformed", raw(ES, good(sub=7)))
add("sub with a line end", "Malformed", raw(ES, good(sub="alice\r\nx-admin: 1")))
add("sub with spaces around", "Malformed", raw(ES, good(sub=" alice")))
add("sub empty", "Malformed", raw(ES, good(sub="")))
add("sub of 256 bytes", "Malformed", raw(ES, good(sub="a" * 256)))
add("claims array", "Malformed", raw(ES, "[]"))
add("claims text", "Malformed", raw(ES, '"x"'))
add("claims empty", "Malformed", raw(ES, ""))
add("claims deep", "Malformed", raw(ES, GOOD_TEXT[:-1] + ',"x":' + "[" * 1000 + "]" * 1000 + "}"))
add("claims with more behind them", "Malformed", raw(ES, GOOD_TEXT + "x"))
add("claims not UTF-8", "Malformed", raw(ES, GOOD_TEXT.encode()[:-1] + b',"x":"\xc3\x28"}'))
add("claims with half a surrogate", "Malformed", raw(ES, GOOD_TEXT[:-1] + ',"x":"\\ud800"}'))
add("a token in a token", "Malformed", raw({**ES, "cty": "JWT"}, token))
add("a token in a token, not said", "Malformed", raw(ES, token))
add("no signature", "WrongCredential", h + "." + c + ".")
add("no third part", "Malformed", h + "." + c)
add("four parts", "Malformed", token + ".x")
add("four parts, last empty", "Malformed", token + ".")
add("five parts", "Malformed", token + ".x.y")
add("parts of nothing", "Malformed", "..")
add("empty first part", "Malformed", "." + c + "." + s)
add("empty claims part", "WrongCredential", h + ".." + s)
add("signature padded", "Malformed", token + "==")
add("claims padded", "Malformed", h + "." + c + "=." + s)
add("claims padded, signed", "Malformed", h + "." + c + "=." + b64(es256((h + "." + c + "=").encode())))
add("header padded", "Malformed", h + "=." + c + "." + s)
add("space inside", "Malformed", h + ". " + c + "." + s)
add("space at the end", "Malformed", token + " ")
add("tab before the signature", "Malformed", h + "." + c + ".\t" + s)
add("standard alphabet", "Malformed", h + "." + c + "." + "+/" + s[2:])
add("bytes behind the signature", "WrongCredential", h + "." + c + "." + b64(base64.urlsafe_b64decode(s + "==") + b"\0"))
alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
add("spare bits in the signature", "Malformed", token[:-1] + alphabet[alphabet.index(token[-1]) + 1])
add("signature cut", "WrongCredential", raw(ES, GOOD, lambda m: es256(m)[:-1]))
add("signature of another token", "WrongCredential", h + "." + c + "." + other[2])
add("claims of another token", "WrongCredential", h + "." + other[1] + "." + s)
add("ECDSA as DER", "WrongCredential", raw(ES, GOOD, lambda m: P256.sign(m, ec.ECDSA(hashes.SHA256()))))
for name, r, q in [("r=s=0", 0, 0), ("r=0", 0, 1), ("s=0", 1, 0), ("r=s=n", ORDER, ORDER), ("r=n+1", ORDER + 1, 1)]:
    add(f"ECDSA {name}", "WrongCredential", raw(ES, GOOD, fixed(r.to_bytes(32, "big") + q.to_bytes(32, "big"))))
add("ECDSA zeros by P-384", "WrongCredential", raw({"alg": "ES384", "kid": "p384"}, GOOD, fixed(bytes(96))))
add("Ed25519 zeros", "WrongCredential", raw({"alg": "EdDSA", "kid": "ed"}, GOOD, fixed(bytes(64))))
add("RSA zeros", "WrongCredential", raw({"alg": "RS256", "kid": "rsa"}, GOOD, fixed(bytes(256))))
add("RSA one", "WrongCredential", raw({"alg": "RS256", "kid": "rsa"}, GOOD, fixed(bytes(255) + b"\1")))
add("RSA with a zero before", "WrongCredential", raw({"alg": "RS256", "kid": "rsa"}, GOOD, lambda m: b"\0" + RSA.sign(m, padding.PKCS1v15(), hashes.SHA256())))
add("JSON serialization", "Malformed", json.dumps({"protected": h, "payload": c, "signature": s}))
add("a dot", "Malformed", ".")
add("no dot", "Malformed", "x")

valid = []


def accept(name, token, upstream="alice"):
    valid.append({"name": name, "token": token, "consumer": upstream})


for alg in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]:
    accept(alg, jwt.encode(GOOD, RSA, alg, {"kid": "rsa"}))
accept("RS256 by a key for it", jwt.encode(GOOD, RSA_2, "RS256", {"kid": "rsa-2"}))
accept("ES256", jwt.encode(GOOD, P256, "ES256", {"kid": "p256"}))
accept("ES384", jwt.encode(GOOD, P384, "ES384", {"kid": "p384"}))
accept("EdDSA", jwt.encode(GOOD, ED, "EdDSA", {"kid": "ed"}))
accept("without kid", jwt.encode(GOOD, P256, "ES256"))
accept("RSA without kid", jwt.encode(GOOD, RSA_2, "RS256"))
accept("typ at+jwt", jwt.encode(GOOD, P256, "ES256", {"kid": "p256", "typ": "at+jwt"}))
accept("typ application/at+JWT", jwt.encode(GOOD, P256, "ES256", {"kid": "p256", "typ": "application/at+JWT"}))
accept("aud array", jwt.encode(good(aud=["bank", "shop"]), P256, "ES256", {"kid": "p256"}))
accept("nbf past", jwt.encode(good(nbf=1700000000), P256, "ES256", {"kid": "p256"}))
accept("dates with fractions", jwt.encode(good(exp=FAR + 0.5, iat=1700000000.25), P256, "ES256", {"kid": "p256"}))
accept("without iat", jwt.encode(without("iat"), P256, "ES256", {"kid": "p256"}))
accept("without sub", jwt.encode(without("sub"), P256, "ES256", {"kid": "p256"}), None)
accept("sub with other letters", jwt.encode(good(sub="Žofie"), P256, "ES256", {"kid": "p256"}), "Žofie")
accept("jku unread", jwt.encode(GOOD, P256, "ES256", {"kid": "p256", "jku": "http://127.0.0.1:1/"}))
accept("escaped name", raw(ES, GOOD_TEXT.replace('"exp"', '"\\u0065xp"')))
symmetric = [{"name": alg, "token": jwt.encode(GOOD, SECRET, alg, {"kid": "oct"}), "consumer": "alice"} for alg in ["HS256", "HS384", "HS512"]]
rich = {
    "scope": "read write", "scp": ["admin"], "email": "a@shop.test", "email_verified": True, "level": 3, "ratio": 1.5,
    "roles": ["a", "b"], "realm_access": {"roles": ["buyer", "seller"]}, "https://shop.test/role": "boss",
    "address": {"city": "Brno"}, "nothing": None, "mixed": [1, {"a": 2}], "huge": 12345678901234567890123,
    "comma": ["a,b"], "control": "a\u0007b", "spaces": " a", "big": 18446744073709551615, "negative": -7,
}
claims = jwt.encode({**GOOD, **rich}, P256, "ES256", {"kid": "p256"})

write = lambda name, value: open(name, "w").write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
write("jwks.json", {"keys": KEYS})
write("symmetric.json", {"keys": [OCT, *KEYS]})
write("tokens.json", {"hostile": hostile, "valid": valid, "symmetric": symmetric, "claims": claims})
print(len(hostile), "hostile,", len(valid), "valid")
