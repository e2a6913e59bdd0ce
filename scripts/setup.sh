#!/usr/bin/env bash
# Installs what building images and running the tests needs, and says what it installs before it does.
# usage: scripts/setup.sh image|test
# Packages come from the host's own apt sources, toolchains from rustup's and Go's own installers.
set -euo pipefail

goal=${1:?usage: scripts/setup.sh image|test}
rust_toolchain=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$(dirname "$0")/../rust-toolchain.toml")
musl=x86_64-unknown-linux-musl
go_needed=$(sed -n 's/^go //p' "$(dirname "$0")/../programs/node/go.mod")

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "error: $1"; [ -z "${2:-}" ] || say "help: $2"; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else die "installing packages needs root and there is no sudo" "run as root: $*"; fi; }

# program:package, what an image build runs; then what only the tests run.
wanted="qemu-system-x86_64:qemu-system-x86 mksquashfs:squashfs-tools cc:gcc curl:curl"
files="/usr/lib/ipxe/qemu/pxe-virtio.rom:ipxe-qemu /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring /etc/ssl/certs/ca-certificates.crt:ca-certificates"
if [ "$goal" = test ]; then
    wanted="$wanted mkfs.erofs:erofs-utils cpio:cpio zstd:zstd xz:xz-utils file:file ssh:openssh-client depmod:kmod lsinitramfs:initramfs-tools-core docker-registry:docker-registry dnsmasq:dnsmasq-base ip:iproute2 ganesha.nfsd:nfs-ganesha rpcbind:rpcbind tgtd:tgt mke2fs:e2fsprogs qemu-nbd:qemu-utils nbd-server:nbd-server dracut:dracut-core python3:python3"
    files="$files /usr/lib/x86_64-linux-gnu/ganesha/libfsalvfs.so:nfs-ganesha-vfs"
    # The boot chain's loaders, a machine that asks for them, and the browser that looks at its page.
    wanted="$wanted grub-script-check:grub-common openssl:openssl chromium:chromium busybox:busybox"
    files="$files /usr/share/OVMF/OVMF_CODE_4M.fd:ovmf /usr/lib/ipxe/undionly.kpxe:ipxe /usr/lib/PXELINUX/pxelinux.0:pxelinux"
    files="$files /usr/lib/syslinux/modules/bios/ldlinux.c32:syslinux-common /usr/lib/grub/x86_64-efi/efinet.mod:grub-efi-amd64-bin"
fi

missing=()
for pair in $wanted; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
for pair in $files; do [ -e "${pair%%:*}" ] || missing+=("${pair##*:}"); done
if [ "${#missing[@]}" -gt 0 ]; then
    command -v apt-get >/dev/null || die "missing: ${missing[*]}, and there is no apt-get here" "install them with your system's own package tool"
    say "installing Debian packages: ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

export PATH="$HOME/.cargo/bin:$PATH"
if ! command -v rustup >/dev/null; then
    if apt-cache show rustup >/dev/null 2>&1; then
        say "installing Debian's rustup"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rustup >/dev/null
    else
        say "installing rustup into ~/.cargo with the Rust project's own installer"
        curl --proto '=https' --tlsv1.2 -fsS https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none --no-modify-path
    fi
fi
if ! rustup run "$rust_toolchain" rustc --version >/dev/null 2>&1; then
    say "installing Rust $rust_toolchain"
    rustup toolchain install "$rust_toolchain" --profile minimal -c rustfmt -c clippy -c rust-src
fi
if ! rustup target list --toolchain "$rust_toolchain" --installed | grep -qx "$musl"; then
    say "installing the Rust target $musl"
    rustup target add --toolchain "$rust_toolchain" "$musl"
fi
if ! rustup component list --toolchain "$rust_toolchain" --installed | grep -qx rust-src; then
    say "installing the sources of Rust's standard library"
    rustup component add --toolchain "$rust_toolchain" rust-src
fi

# Is version $1 at least $2?
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
data_dir=${XDG_DATA_HOME:-$HOME/.local/share}/bootwright
go_dir=$data_dir/go
go_found=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//' || true)
if [ -z "$go_found" ] || ! at_least "$go_found" "$go_needed"; then
    if [ ! -x "$go_dir/bin/go" ] || ! at_least "$("$go_dir/bin/go" env GOVERSION | sed 's/^go//')" "$go_needed"; then
        say "installing Go $go_needed into $go_dir (found: ${go_found:-none})"
        mkdir -p "$(dirname "$go_dir")"
        tmp=$(mktemp -d "$go_dir.XXXXXX")
        curl -fsSL "https://go.dev/dl/go$go_needed.linux-amd64.tar.gz" | tar -xz -C "$tmp" --strip-components=1 \
            || { rm -rf "$tmp"; die "cannot fetch Go $go_needed" "install Go $go_needed or newer and put it on PATH"; }
        rm -rf "$go_dir"
        mv "$tmp" "$go_dir"
    fi
fi

# Programs for the tests that no Debian package has (tests/programs/go.mod).
if [ "$goal" = test ]; then
    export PATH="$PATH:$go_dir/bin"
    programs=$(cd "$(dirname "$0")/../tests/programs" && pwd)
    programs_dir=$data_dir/test-programs
    if [ ! -x "$programs_dir/matchbox" ] || [ ! -e "$programs_dir/ipxe.efi" ] || [ "$programs/go.sum" -nt "$programs_dir/matchbox" ]; then
        say "building matchbox and fetching an iPXE that verifies signatures into $programs_dir"
        mkdir -p "$programs_dir"
        fetch() { go -C "$programs" mod download -json "$1" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p'; }
        ipxe=$(fetch github.com/tinkerbell/ipxedust) && matchbox=$(fetch github.com/poseidon/matchbox) || die "cannot fetch the modules of tests/programs/go.mod"
        install -m 644 "$ipxe/binary/ipxe.efi" "$programs_dir/ipxe.efi"
        CGO_ENABLED=0 go -C "$matchbox" build -trimpath -o "$programs_dir/matchbox" ./cmd/matchbox || die "cannot build matchbox"
    fi
fi
say "ready"
