#!/usr/bin/env bash
# Makes the image of benches/prototype.toml boot as the prototype did: busybox sh as PID1, no tuning.
# usage: benches/prototype.sh DIR   (DIR gets vmlinuz and initrd.img)
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:?usage: benches/prototype.sh DIR}
bootwright=${BOOTWRIGHT:-target/release/bootwright}
mkdir -p "$dir"
"$bootwright" build --recipe benches/prototype.toml --out "$dir/out" >"$dir/build.log"
image=$dir/out/prototype
tree=$dir/tree
rm -rf "$tree"
mkdir -p "$tree"
(cd "$tree" && for segment in boot root; do
    file=$(ls "$image"/segments/$segment.cpio*)
    # zstd complains about the zeros that pad a segment, after it has written all of it.
    case $file in *.zst) zstd -qdc "$file" 2>/dev/null || true ;; *) cat "$file" ;; esac | cpio -idm --quiet
done)
busybox=$(cd "$tree" && unsquashfs -q -n -d busybox.d bootwright/root.img usr/bin/busybox >/dev/null && echo busybox.d/usr/bin/busybox)
mkdir -p "$tree/bin"
mv "$tree/$busybox" "$tree/bin/busybox"
rm -rf "$tree/busybox.d" "$tree/init"
cat >"$tree/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev /run /lower /rw /new
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev; $b mount -t tmpfs run /run
for m in loop squashfs overlay; do $b insmod "$($b find /lib/modules /usr/lib/modules -name $m.ko 2>/dev/null | $b head -n 1)" 2>/dev/null; done
$b losetup /dev/loop0 /bootwright/root.img
$b mount -t squashfs -o ro /dev/loop0 /lower
$b mount -t tmpfs rw /rw; $b mkdir /rw/u /rw/w
$b mount -t overlay -o lowerdir=/lower,upperdir=/rw/u,workdir=/rw/w root /new
for d in proc sys dev run; do $b mkdir -p /new/$d; $b mount --move /$d /new/$d; done
$b mkdir -p /new/bin-bb; $b cp /bin/busybox /new/bin-bb/busybox
for n in mount umount modprobe; do $b ln -sf /bin-bb/busybox /new/usr/bin/$n; done
$b cat >/new/start <<'START'
#!/bin-bb/busybox sh
b=/bin-bb/busybox
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:/bin-bb
$b mount -t cgroup2 cgroup2 /sys/fs/cgroup
$b mkdir /sys/fs/cgroup/init; echo 1 >/sys/fs/cgroup/init/cgroup.procs
for c in cpu cpuset memory pids io hugetlb; do echo +$c >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null; done
$b mkdir -p /var/lib/containerd /var/lib/kubelet /etc/cni/net.d /tmp /dev/pts /dev/shm
$b mount -t tmpfs c /var/lib/containerd
$b ip link set lo up; $b hostname prototype
echo 0123456789abcdef0123456789abcdef >/etc/machine-id; : >/etc/resolv.conf; echo root:x:0:0:root:/root:/bin/sh >/etc/passwd
containerd --config /etc/containerd/config.toml >/run/containerd.log 2>&1 &
while ! [ -S /run/containerd/containerd.sock ]; do $b usleep 50000; done
read up _ </proc/uptime; echo "prototype: containerd $up"
kubelet --config=/etc/kubernetes/kubelet.yaml --hostname-override=prototype >/run/kubelet.log 2>&1 &
n=0
while ! $b wget -q -O /dev/null http://127.0.0.1:10248/healthz 2>/dev/null; do
    $b usleep 100000; n=$((n + 1))
    [ $n -lt 300 ] || { $b tail -n 20 /run/kubelet.log; $b poweroff -f; }
done
read up _ </proc/uptime; echo "prototype: kubelet $up"
$b sleep 1; $b poweroff -f
START
$b chmod 755 /new/start
exec $b switch_root /new /start
INIT
chmod 755 "$tree/init"
(cd "$tree" && find . | sort | cpio -o -H newc -R 0:0 --quiet | zstd -q -3) >"$dir/initrd.img"
cp "$image/vmlinuz" "$dir/vmlinuz"
stat -c '%n %s' "$dir/vmlinuz" "$dir/initrd.img"
