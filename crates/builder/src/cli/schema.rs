//! `bootwright schema`: the JSON schema of recipes or of nodes.toml, for editors.

use crate::error::Failure;
use crate::nodes::nodes_schema;
use crate::recipe::recipe_schema;

/// Prints the schema to standard output.
pub fn schema(nodes: bool) -> Result<(), Failure> {
    let schema = if nodes { nodes_schema() } else { recipe_schema() };
    super::print_out(&format!("{schema:#}\n"))
}
