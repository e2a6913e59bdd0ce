//! bootwright: recipes in, minimal netboot images out. The flow is [`pipeline`]; each stage is a module of its own.

pub mod budget;
pub mod cache;
pub mod chain;
pub mod cli;
pub mod doctor;
pub mod elf;
pub mod emit;
pub mod entry;
pub mod error;
pub mod fetch;
pub mod inspect;
pub mod interrupt;
pub mod kmod;
pub mod lock;
pub mod nodes;
pub mod pack;
pub mod parallel;
pub mod pid1;
pub mod pipeline;
pub mod recipe;
pub mod segment;
pub mod signing;
pub mod smoke;
pub mod source;
pub mod tree;
pub mod ui;
