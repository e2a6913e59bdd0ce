use super::{Context, Pin, Pool, Source, SourceError};
use crate::recipe::OciSpec;

pub struct Oci<'a> {
    pub spec: &'a OciSpec,
}

impl Source for Oci<'_> {
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
