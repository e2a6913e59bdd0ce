//! `bootwright schema`: the JSON schema of recipes, for editors.

use crate::error::Failure;
use crate::recipe::recipe_schema;

/// Prints the schema to standard output.
pub fn schema() -> Result<(), Failure> {
    super::print_out(&format!("{:#}\n", recipe_schema()))
}
