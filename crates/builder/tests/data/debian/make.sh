#!/bin/sh
# Makes the tiny signed archives beside this script: run by hand, with gpg, when a test needs another package.
# Nothing here is secret: the key is thrown away.
set -eu
cd "$(dirname "$0")"
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
export GNUPGHOME="$home"
new_key() {
    gpg --batch --quiet --passphrase '' --quick-generate-key "$1" rsa3072 sign never
}
new_key trusted
new_key stranger
gpg --batch --quiet --export trusted > keyring.gpg

# package NAME VERSION FIELDS: one record of a Packages file.
package() {
    hash=$(printf %s "$1$2" | sha256sum | cut -d' ' -f1)
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: Test <test@example.org>\n' "$1" "$2"
    printf 'Filename: pool/main/%s_%s_all.deb\nSize: 5\nSHA256: %s\n' "$1" "$2" "$hash"
    [ -z "${3:-}" ] || printf '%s\n' "$3"
    printf '\n'
}

# source NAME VERSION FOLDER: one record of a Sources file. The only file of the package holds its name and version.
source() {
    hash=$(printf '%s %s' "$1" "$2" | sha256sum | cut -d' ' -f1)
    size=$(printf '%s %s' "$1" "$2" | wc -c)
    printf 'Package: %s\nVersion: %s\nMaintainer: Test <test@example.org>\nFormat: 1.0\nBinary: %s\n' "$1" "$2" "$1"
    printf 'Architecture: all\nDirectory: %s/%s\nFiles:\n %s %s %s_%s.dsc\n' "$3" "$1" "$(printf %s x | md5sum | cut -d' ' -f1)" "$size" "$1" "$2"
    printf 'Checksums-Sha256:\n %s %s %s_%s.dsc\n\n' "$hash" "$size" "$1" "$2"
}

# suite FOLDER NAME SIGNER FIELDS: signs the Packages file that comes in, and the file `sources`.
suite() {
    dists="$1/dists/$2"
    mkdir -p "$dists/main/binary-amd64" "$dists/main/source"
    cat > "$dists/main/binary-amd64/Packages"
    cat "$home/sources" > "$dists/main/source/Sources"
    : > "$home/sources"
    {
        printf 'Origin: Debian\nSuite: %s\nCodename: %s\nDate: Mon, 01 Jan 2024 00:00:00 UTC\n' "$2" "$2"
        [ -z "$4" ] || printf '%s\n' "$4"
        printf 'Architectures: amd64 all\nComponents: main\nSHA256:\n'
        for list in main/binary-amd64/Packages main/source/Sources; do
            printf ' %s %s %s\n' "$(sha256sum < "$dists/$list" | cut -d' ' -f1)" "$(stat -c %s "$dists/$list")" "$list"
        done
    } > "$home/Release"
    gpg --batch --quiet --yes --local-user "$3" --clearsign --output "$dists/InRelease" "$home/Release"
}

all_packages() {
    package app 1 'Depends: libapp (>= 1), helper | other-helper'
    package libapp 1.0
    package helper 1 'Depends: helper-data'
    package helper-data 1
    package meta 1 'Provides: virtual-meta'
    package broken 1 'Depends: libapp (>= 9)'
}

all_sources() {
    source libapp 1.0 pool/main
    source helper 1 pool/main
}

rm -rf good good-security expired stranger
all_sources > "$home/sources"
all_packages | suite good trixie trusted ''
suite good trixie-updates trusted '' < /dev/null
source libapp 1.0+deb13u1 pool/updates/main > "$home/sources"
package libapp 1.0+deb13u1 | suite good-security trixie-security trusted ''
{ all_sources; source dropped 0.9 pool/main; } > "$home/sources"
all_packages | suite expired trixie trusted 'Valid-Until: Tue, 02 Jan 2024 00:00:00 UTC'
all_sources > "$home/sources"
all_packages | suite stranger trixie stranger ''
