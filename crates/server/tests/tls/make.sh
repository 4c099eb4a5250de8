#!/bin/sh
# Makes the certificates and keys of the tests of TLS: a chain for `localhost` that is valid for a hundred years, its
# authority, and keys that do not fit. They protect nothing: everybody has them.
set -eu
cd "$(dirname "$0")"
new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
new_key authority-key.pem
openssl req -x509 -new -key authority-key.pem -subj '/CN=Tests of autarky' -days 36500 -out authority.pem \
  -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign'
new_key key.pem
openssl req -new -key key.pem -subj '/CN=localhost' -out request.pem
printf '%s\n' 'subjectAltName=DNS:localhost' 'basicConstraints=critical,CA:FALSE' \
  'extendedKeyUsage=serverAuth' >extensions
openssl x509 -req -in request.pem -CA authority.pem -CAkey authority-key.pem -set_serial 1 -days 36500 \
  -extfile extensions -out chain.pem
cat authority.pem >>chain.pem
new_key other-key.pem
openssl pkey -in key.pem -aes256 -passout pass:test -out encrypted-key.pem
rm authority-key.pem request.pem extensions
