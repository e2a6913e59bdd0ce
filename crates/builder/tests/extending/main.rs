//! Recipes that extend others, from outside: whose file wins, and how an inherited recipe is changed.

mod files;
mod locks;
