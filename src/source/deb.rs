use super::{Context, Pin, Pool, Source, SourceError};
use crate::recipe::DebSpec;

pub struct Deb<'a> {
    pub spec: &'a DebSpec,
}

impl Source for Deb<'_> {
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
