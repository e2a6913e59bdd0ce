//! Boots an image in QEMU and waits for its expectations.
