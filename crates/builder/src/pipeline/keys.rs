//! The keys of a build: who signs its modules, who its root, and whose roots its initrd takes.

use super::BuildRequest;
use crate::entry::Sha256;
use crate::error::Failure;
use crate::module_signing::ModuleSigner;
use crate::recipe::{CheckedRecipe, RootMode};
use crate::signing::{SigningError, SigningKey, load_public_key, load_signing_key};
use bootwright_contract::Trust;

/// What a build was given.
pub struct Keys {
    pub signing: Option<SigningKey>,
    /// The key of `[root] trust`, else that which signs.
    trusted: Option<[u8; 32]>,
    serial: Option<u64>,
    /// Of who signs modules.
    modules: Option<Sha256>,
}

impl Keys {
    /// Reads them, and checks that they go together.
    pub fn load(
        recipe: &CheckedRecipe,
        request: &BuildRequest,
        signer: Option<&ModuleSigner>,
    ) -> Result<Keys, Failure> {
        let signing = request.sign.as_deref().map(load_signing_key).transpose()?;
        let named = recipe.root.trust.as_deref().map(load_public_key).transpose()?;
        let own = signing.as_ref().map(SigningKey::public);
        if let (Some(path), Some(own)) = (&request.sign, own) {
            if recipe.root.mode == RootMode::Ram {
                return Err(SigningError::NotOnServer.into());
            }
            if let (Some(trusted), true) = (&recipe.root.trust, named.is_some_and(|named| named != own)) {
                return Err(SigningError::OtherKey { signing: path.clone(), trusted: trusted.clone() }.into());
            }
        }
        let modules = signer.map(ModuleSigner::identity);
        Ok(Keys { signing, trusted: named.or(own), serial: request.serial, modules })
    }

    /// The hash of a build's inputs, with these.
    pub fn with(&self, inputs: &Sha256) -> Sha256 {
        let signs = [u8::from(self.signing.is_some())];
        let serial = self.serial.map(u64::to_le_bytes);
        let trusted = self.trusted.as_ref().map(|key| &key[..]).unwrap_or_default();
        let serial = serial.as_ref().map(|serial| &serial[..]).unwrap_or_default();
        let modules = self.modules.as_ref().map(|identity| &identity.0[..]).unwrap_or_default();
        // Each part but the first says whether it is there by its length, which comes before it.
        let lengths = [trusted, serial, modules].map(|part| part.len() as u8);
        Sha256::of(&[&inputs.0[..], &signs, &lengths, trusted, serial, modules].concat())
    }

    /// The image's serial. `time`: of the lock, seconds since 1970; it grows as sources are renewed.
    pub fn serial(&self, time: u64) -> u64 {
        self.serial.unwrap_or(time)
    }

    /// What PID1 is told.
    pub fn trust(&self, recipe: &CheckedRecipe, serial: u64) -> Option<Trust> {
        let key = hex::encode(self.trusted?);
        let network = recipe.root.mode.is_network();
        network.then_some(Trust { key, serial, refuse_downgrade: recipe.root.refuse_downgrade })
    }
}
