//! Why something was not done, in words.

use std::error::Error;
use std::fmt;

/// Why something was not done, in words. `Box<dyn Error>` would also keep the `Debug` code of every error type in the
/// binary, which is 30 kB.
pub struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::in_words(&error)
    }
}

impl Failure {
    /// The code for a type of error is a call.
    fn in_words(error: &dyn fmt::Display) -> Failure {
        Failure(error.to_string())
    }
}
