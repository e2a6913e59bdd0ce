//! Writes `out/<recipe>/`.
