use super::{Context, Pin, Pool, Source, SourceError};
use crate::recipe::PathSpec;

pub struct LocalPath<'a> {
    pub spec: &'a PathSpec,
}

impl Source for LocalPath<'_> {
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
