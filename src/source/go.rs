use super::{Context, Pin, Pool, Source, SourceError};
use crate::recipe::GoSpec;

pub struct Go<'a> {
    pub spec: &'a GoSpec,
}

impl Source for Go<'_> {
    fn lock(&self, _cx: &Context<'_>) -> Result<Vec<Pin>, SourceError> {
        todo!()
    }
    fn fetch(&self, _pins: &[Pin], _cx: &Context<'_>) -> Result<(), SourceError> {
        todo!()
    }
    fn open(&self, _pins: &[Pin], _cx: &Context<'_>) -> Result<Pool, SourceError> {
        todo!()
    }
}
