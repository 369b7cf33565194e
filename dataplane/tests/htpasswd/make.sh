#!/bin/sh
# Makes the files beside it with the real programs: htpasswd (Apache), openssl, and bcrypt from PyPI for the
# prefixes that htpasswd does not write. Each user's password is in `passwords`: user, tab, password.
set -eu
cd "$(dirname "$0")"
tab=$(printf '\t')
rm -f apache openssl python
apache() { htpasswd -nb "$@" | head -n 1 >>apache; }
long=$(printf 'Long passwords go round. %.0s' 1 2 3 4 5 6)
{
    printf 'bcrypt\tcorrect horse\n'
    printf 'bcrypt-4\tcolon:in:it\n'
    printf 'bcrypt-10\tten\n'
    printf 'bcrypt-long\t%s\n' "$long"
    printf 'apr1\tbattery staple\n'
    printf 'apr1-long\t%s\n' "$long"
    printf 'sha1\tsesame\n'
    printf 'sha256\tpässwörd\n'
    printf 'sha256-long\t%s\n' "$long"
    printf 'sha512\t密码\n'
    printf 'sha512-long\t%s\n' "$long"
    printf 'sha512-rounds\tmany times\n'
    printf 'empty\t\n'
    printf 'openssl-5\tof openssl\n'
    printf 'openssl-6\tof openssl, too\n'
    printf 'openssl-6-long\t%s\n' "$long"
    printf 'openssl-apr1\tsalt & vinegar\n'
    printf 'python-2a\ttwo a\n'
    printf 'python-2b\ttwo b\n'
} >passwords
password() { sed -n "s/^$1$tab//p" passwords; }
apache -B bcrypt "$(password bcrypt)"
apache -B -C 4 bcrypt-4 "$(password bcrypt-4)"
apache -B -C 10 bcrypt-10 "$(password bcrypt-10)"
apache -B -C 4 bcrypt-long "$(password bcrypt-long)"
apache -m apr1 "$(password apr1)"
apache -m apr1-long "$(password apr1-long)"
apache -s sha1 "$(password sha1)"
apache -2 sha256 "$(password sha256)"
apache -2 sha256-long "$(password sha256-long)"
apache -5 sha512 "$(password sha512)"
apache -5 sha512-long "$(password sha512-long)"
apache -5 -r 1234 sha512-rounds "$(password sha512-rounds)"
apache -m empty ''
apache -d refused-des des
apache -p refused-plain plain
openssl_() { printf '%s:%s\n' "$1" "$(password "$1" | openssl passwd "$2" -stdin)" >>openssl; }
openssl_ openssl-5 -5
openssl_ openssl-6 -6
openssl_ openssl-6-long -6
openssl_ openssl-apr1 -apr1
printf 'refused-md5:%s\n' "$(openssl passwd -1 md5)" >>openssl
python3 - "$(password python-2a)" "$(password python-2b)" >python <<'PYTHON'
import sys, bcrypt
for prefix, password in zip((b"2a", b"2b"), sys.argv[1:]):
    print(f"python-{prefix.decode()}:" + bcrypt.hashpw(password.encode(), bcrypt.gensalt(5, prefix)).decode())
PYTHON
