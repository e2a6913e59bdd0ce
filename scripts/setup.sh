#!/usr/bin/env bash
# Installs what building images and running the tests needs, and says what it installs before it does.
# usage: scripts/setup.sh image|test [--list]
#   --list  install nothing; print the Debian packages that an empty machine needs
# Packages come from the host's own apt sources, toolchains from rustup's and Go's own sites.
set -euo pipefail

goal=${1:?usage: scripts/setup.sh image|test [--list]}
rust_toolchain=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$(dirname "$0")/../rust-toolchain.toml")
musl=x86_64-unknown-linux-musl
# The Go that the locks pin, and the SHA-256 that its site publishes for its archive: both change together.
go_needed=$(sed -n 's/^go //p' "$(dirname "$0")/../programs/pod/go.mod")
go_sha256=d0f743b33e8d8945e6b1f432edd15785c70507121d6e2a723b21285eddf8b57b # 1.26.8

# Looks at licences and origins of dependencies (`make deny`).
deny_needed=0.20.2

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "error: $1"; [ -z "${2:-}" ] || say "help: $2"; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else die "installing packages needs root and there is no sudo" "run as root: $*"; fi; }

# program:package and file:package, what an image build needs; then what only the tests need. Recommended packages are not
# installed, so the C library's headers and start files, which linking a Rust program takes, are asked for by themselves.
wanted="qemu-system-x86_64:qemu-system-x86 mksquashfs:squashfs-tools cc:gcc curl:curl"
files="/usr/include/stdio.h:libc6-dev /usr/lib/ipxe/qemu/pxe-virtio.rom:ipxe-qemu /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring /etc/ssl/certs/ca-certificates.crt:ca-certificates"
if [ "$goal" = test ]; then
    wanted="$wanted mkfs.erofs:erofs-utils cpio:cpio zstd:zstd xz:xz-utils file:file ssh:openssh-client depmod:kmod lsinitramfs:initramfs-tools-core docker-registry:docker-registry dnsmasq:dnsmasq-base ip:iproute2 ganesha.nfsd:nfs-ganesha rpcbind:rpcbind tgtd:tgt mke2fs:e2fsprogs qemu-nbd:qemu-utils nbd-server:nbd-server dracut:dracut-core veritysetup:cryptsetup-bin python3:python3"
    files="$files /usr/lib/x86_64-linux-gnu/ganesha/libfsalvfs.so:nfs-ganesha-vfs"
    # Python's own way to keep packages of PyPI apart.
    [ "${2:-}" != --list ] && python3 -c 'import ensurepip' 2>/dev/null || wanted="$wanted no-ensurepip:python3-venv"
    # libFuzzer is C++.
    wanted="$wanted c++:g++"
    # The boot chain's loaders, a machine that asks for them, and the browser that looks at its page.
    wanted="$wanted grub-script-check:grub-common openssl:openssl chromium:chromium busybox:busybox"
    files="$files /usr/share/OVMF/OVMF_CODE_4M.fd:ovmf /usr/lib/ipxe/undionly.kpxe:ipxe /usr/lib/PXELINUX/pxelinux.0:pxelinux"
    files="$files /usr/lib/syslinux/modules/bios/ldlinux.c32:syslinux-common /usr/lib/grub/x86_64-efi/efinet.mod:grub-efi-amd64-bin"
    # Secure Boot: what signs programs for UEFI, and a loader to be signed. A TPM that measures them.
    wanted="$wanted sbsign:sbsigntool swtpm:swtpm"
    files="$files /usr/lib/systemd/boot/efi/systemd-bootx64.efi:systemd-boot-efi"
fi

if [ "${2:-}" = --list ]; then
    for pair in $wanted $files; do printf '%s\n' "${pair##*:}"; done | LC_ALL=C sort -u
    exit
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

if [ "$goal" = test ] && [ "$(cargo-deny --version 2>/dev/null)" != "cargo-deny $deny_needed" ]; then
    say "building cargo-deny $deny_needed into ~/.cargo/bin"
    rustup run "$rust_toolchain" cargo install cargo-deny --version "$deny_needed" --locked --quiet --profile dev --no-default-features
fi

# Exactly the pinned Go: another one gives other programs. It stands beside whatever else is there, and bootwright finds it.
data_dir=${XDG_DATA_HOME:-$HOME/.local/share}/bootwright
go_dir=$data_dir/go
if ! go=$("$(dirname "$0")/go.sh"); then
    say "installing Go $go_needed into $go_dir"
    mkdir -p "$(dirname "$go_dir")"
    tmp=$(mktemp -d "$go_dir.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    by_hand="install Go $go_needed from https://go.dev/dl/ into /usr/local/go"
    curl -fsSL -o "$tmp/go.tar.gz" "https://go.dev/dl/go$go_needed.linux-amd64.tar.gz" || die "cannot fetch Go $go_needed" "$by_hand"
    echo "$go_sha256  $tmp/go.tar.gz" | sha256sum --check --quiet || die "the archive of Go $go_needed is not the one that was published" "$by_hand"
    tar -xzf "$tmp/go.tar.gz" -C "$tmp"
    rm -rf "$go_dir"
    mv "$tmp/go" "$go_dir"
    go=$go_dir/bin/go
fi

# Programs for the tests that no Debian package has (crates/testkit/programs/go.mod).
if [ "$goal" = test ]; then
    programs=$(cd "$(dirname "$0")/../crates/testkit/programs" && pwd)
    programs_dir=$data_dir/test-programs
    if [ ! -x "$programs_dir/matchbox" ] || [ ! -e "$programs_dir/ipxe.efi" ] || [ "$programs/go.sum" -nt "$programs_dir/matchbox" ]; then
        say "building matchbox and fetching an iPXE that verifies signatures into $programs_dir"
        mkdir -p "$programs_dir"
        fetch() { "$go" -C "$programs" mod download -json "$1" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p'; }
        ipxe=$(fetch github.com/tinkerbell/ipxedust) && matchbox=$(fetch github.com/poseidon/matchbox) || die "cannot fetch the modules of crates/testkit/programs/go.mod"
        install -m 644 "$ipxe/binary/ipxe.efi" "$programs_dir/ipxe.efi"
        CGO_ENABLED=0 "$go" -C "$matchbox" build -trimpath -o "$programs_dir/matchbox" ./cmd/matchbox || die "cannot build matchbox"
    fi
    # Other people's judges of bills of materials (PyPI).
    judges=$data_dir/sbom-judges
    if ! cmp -s "$programs/sbom-judges.txt" "$judges/installed.txt"; then
        say "installing validators of SPDX and CycloneDX into $judges"
        python3 -m venv --clear "$judges"
        "$judges/bin/pip" install --quiet --disable-pip-version-check --requirement "$programs/sbom-judges.txt" || die "cannot install crates/testkit/programs/sbom-judges.txt from PyPI"
        cp "$programs/sbom-judges.txt" "$judges/installed.txt"
    fi
    "$programs/build" etcd kube-apiserver kube-controller-manager >/dev/null || die "cannot build the tests' control plane"
    # Programs of other people's code that judge ours.
    sources=$(cd "$(dirname "$0")/../crates/builder/tests/programs" && pwd)
    for program in layers store; do
        for file in main.go go.mod go.sum; do
            if [ ! -x "$programs_dir/$program" ] || [ "$sources/$program/$file" -nt "$programs_dir/$program" ]; then
                say "building the tests' program $program into $programs_dir"
                CGO_ENABLED=0 "$go" -C "$sources/$program" build -trimpath -o "$programs_dir/$program" . || die "cannot build the module of crates/builder/tests/programs/$program"
            fi
        done
    done
fi
say "ready"
