//! The text of a recipe.
#![no_main]

use bootwright::recipe::parse_recipe_text;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Err(problems) = parse_recipe_text("input", text) {
        // Problems are shown with the lines that they are in.
        assert!(!problems.to_string().is_empty());
    }
});
