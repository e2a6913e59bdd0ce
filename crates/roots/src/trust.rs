//! Decides which root is the right one: that of this build, or one that a signed manifest names.
//!
//! With a key in the boot config, the manifest (`root.json`, `root.json.sig`) decides if it exists: it lies beside the
//! image on a web server; for other roots [`KEY`] names it. So a new root needs no new initrd. The manifest must be
//! signed and must fit this initrd: recipe, kernel, serial.

use super::context::RootContext;
use super::http::{self, ExpectedSize, HttpError};
use super::source::{Http, Source, parse_http};
use bootwright_base::Failure;
use bootwright_contract::hex;
use bootwright_contract::json::{self, JsonError};
use bootwright_contract::manifest::{
    KIND, RootManifest, SIGNATURE_BYTES, VERITY_KIND, VERSION, VerityManifest, manifest_path, signature_path,
    verity_path,
};
use bootwright_contract::{BootConfig, RootImage, Trust, Verity};
use ed25519_compact::{PublicKey, Signature};

/// Largest manifest in bytes. A real one has a few hundred.
const LARGEST_MANIFEST: u64 = 16 << 10;

/// Key of the kernel command line: the URL of the manifest, for roots that are no image on a web server.
const KEY: &str = "bw.manifest";

/// Properties of the right root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    pub size: u64,
    pub sha256: String,
    pub image: RootImage,
    /// SHA-256 of the sums file, for a root of single files.
    pub tree_sums_sha256: String,
    /// How a root that stays on its server is proven while it is read; `None` when it was built without.
    pub verity: Option<Verity>,
}

/// Why a manifest is not accepted.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum TrustError {
    #[error("the boot config knows no size and hash of a root image: build it with a network root")]
    NoFacts,
    #[error("the boot config's key is no Ed25519 public key")]
    Key,
    #[error("its signature is not by the key of this initrd")]
    Signature,
    #[error("it cannot be read: {0}")]
    Json(JsonError),
    #[error("its {what} is `{found}`, this initrd takes `{expected}`")]
    Other { what: &'static str, found: String, expected: String },
    #[error("its serial is {found}, and this initrd refuses what is older than {oldest}")]
    Downgrade { found: u64, oldest: u64 },
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("`{url}`: {cause}")]
    Get { url: String, cause: HttpError },
    #[error("root manifest `{url}`: {cause}")]
    Trust { url: String, cause: TrustError },
}

/// The root of this build.
///
/// # Errors
/// [`TrustError`]
pub fn baked(config: &BootConfig) -> Result<ImageFacts, TrustError> {
    let root = &config.root;
    let (Some(size), Some(sha256), Some(sums)) = (root.size, &root.sha256, &root.tree_sums_sha256) else {
        return Err(TrustError::NoFacts);
    };
    let (sha256, tree_sums_sha256, verity) = (sha256.clone(), sums.clone(), root.verity.clone());
    Ok(ImageFacts { size, sha256, image: root.image, tree_sums_sha256, verity })
}

/// The right root on a server that has no manifest beside it.
///
/// # Errors
/// [`TrustError`]
pub fn facts_elsewhere(context: &RootContext) -> Result<ImageFacts, Failure> {
    let Some(url) = context.cmdline.value(KEY) else { return Ok(baked(context.config)?) };
    let reason = match parse_http(url) {
        Ok(place) => match facts_with_verity(context, &place) {
            Err(ManifestError::Get { cause: cause @ HttpError::NoTls, .. }) => cause.to_string(),
            facts => return Ok(facts?),
        },
        Err(error) => error.to_string(),
    };
    // Boot scripts name the place that they came from, which may be a TFTP server. The root of this build is always
    // accepted.
    context.note(&[KEY, ": ", &reason, "; the root of this build is taken"].concat());
    Ok(baked(context.config)?)
}

/// The right image at `source`. Of another build's it is not known how it is proven while it is read.
///
/// # Errors
/// [`TrustError`]
pub fn facts(context: &RootContext, source: &Http) -> Result<ImageFacts, ManifestError> {
    let config = context.config;
    let Some(Signed { text, url }) = Signed::get(context, source, manifest_path)? else {
        // Without a key or a manifest only the image of this build is accepted, by its hash.
        let url = url_of(&source.with_path(manifest_path));
        return baked(config).map_err(|cause| ManifestError::Trust { url, cause });
    };
    let facts = check(&text, config).map_err(|cause| ManifestError::Trust { url: url.clone(), cause })?;
    match baked(config) {
        Ok(own) if own.sha256 == facts.sha256 => Ok(ImageFacts { verity: own.verity, ..facts }),
        _ => {
            context.note(&["`", &url, "` names another root, signed by the key of this initrd"].concat());
            Ok(facts)
        }
    }
}

/// The same, and how it is proven if its build has said so.
fn facts_with_verity(context: &RootContext, source: &Http) -> Result<ImageFacts, ManifestError> {
    let facts = facts(context, source)?;
    if facts.verity.is_some() {
        return Ok(facts);
    }
    let Some(Signed { text, url }) = Signed::get(context, source, verity_path)? else { return Ok(facts) };
    let verity = check_verity(&text, &facts.sha256).map_err(|cause| ManifestError::Trust { url, cause })?;
    Ok(ImageFacts { verity: Some(verity), ..facts })
}

/// A file beside an image, with a signature by the key of this initrd.
struct Signed {
    text: Vec<u8>,
    url: String,
}

impl Signed {
    /// `path` makes the path of the file from the image's. `None`: this initrd has no key, or there is no such file. No byte is
    /// parsed that was not signed.
    fn get(context: &RootContext, source: &Http, path: fn(&str) -> String) -> Result<Option<Signed>, ManifestError> {
        let Some(trust) = &context.config.root.trust else { return Ok(None) };
        let file = source.with_path(path);
        let signature = file.with_path(signature_path);
        let get = |place: &Http, most: u64| {
            let mut bytes = Vec::new();
            http::get(context, place, ExpectedSize::AtMost(most), &mut bytes).map(|()| bytes)
        };
        let text = match get(&file, LARGEST_MANIFEST) {
            Err(HttpError::Status { status: 404 }) => return Ok(None),
            text => text.map_err(|cause| ManifestError::Get { url: url_of(&file), cause })?,
        };
        let signed = get(&signature, SIGNATURE_BYTES as u64);
        let signed = signed.map_err(|cause| ManifestError::Get { url: url_of(&signature), cause })?;
        let url = url_of(&file);
        match check_signature(&text, &signed, trust) {
            Ok(()) => Ok(Some(Signed { text, url })),
            Err(cause) => Err(ManifestError::Trust { url, cause }),
        }
    }
}

fn url_of(place: &Http) -> String {
    Source::Http(place.clone()).to_string()
}

fn check_signature(text: &[u8], signature: &[u8], trust: &Trust) -> Result<(), TrustError> {
    let key = key_bytes(&trust.key).and_then(|key| PublicKey::from_slice(&key).ok()).ok_or(TrustError::Key)?;
    let signature = Signature::from_slice(signature).map_err(|_| TrustError::Signature)?;
    key.verify(text, &signature).map_err(|_| TrustError::Signature)
}

fn same(what: &'static str, found: &str, expected: &str) -> Result<(), TrustError> {
    match found == expected {
        true => Ok(()),
        false => Err(TrustError::Other { what, found: found.into(), expected: expected.into() }),
    }
}

/// Whether a manifest that was signed is for this initrd.
fn check(text: &[u8], config: &BootConfig) -> Result<ImageFacts, TrustError> {
    let manifest: RootManifest = json::from_slice(text).map_err(TrustError::Json)?;
    same("kind", &manifest.kind, KIND)?;
    same("version", &manifest.version.to_string(), &VERSION.to_string())?;
    same("recipe", &manifest.recipe, &config.recipe)?;
    same("kernel", &manifest.release, &config.modules.release)?;
    if let Some(trust) = &config.root.trust
        && trust.refuse_downgrade
        && manifest.serial < trust.serial
    {
        return Err(TrustError::Downgrade { found: manifest.serial, oldest: trust.serial });
    }
    let RootManifest { size, sha256, image, tree_sums_sha256, .. } = manifest;
    Ok(ImageFacts { size, sha256, image, tree_sums_sha256, verity: None })
}

/// How the root of that SHA-256 is proven, as was signed.
fn check_verity(text: &[u8], sha256: &str) -> Result<Verity, TrustError> {
    let manifest: VerityManifest = json::from_slice(text).map_err(TrustError::Json)?;
    same("kind", &manifest.kind, VERITY_KIND)?;
    same("version", &manifest.version.to_string(), &VERSION.to_string())?;
    same("root's hash", &manifest.sha256, sha256)?;
    Ok(manifest.verity)
}

/// The 32 bytes of a key in text.
fn key_bytes(text: &str) -> Option<[u8; 32]> {
    hex::decode(text.as_bytes())?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::World;
    use bootwright_contract::fixture::boot_config;
    use ed25519_compact::{KeyPair, Seed};

    fn setting() -> (KeyPair, Trust, BootConfig, RootManifest) {
        let pair = KeyPair::from_seed(Seed::new([7; 32]));
        let trust = Trust { key: hex::encode(&*pair.pk), serial: 10, refuse_downgrade: true };
        let mut config = boot_config();
        config.modules.release = "6.12".into();
        let manifest = RootManifest {
            kind: KIND.into(),
            version: VERSION,
            recipe: config.recipe.clone(),
            image_id: "ab".into(),
            release: "6.12".into(),
            serial: 10,
            image: RootImage::Erofs,
            size: 8192,
            sha256: "cd".into(),
            tree_sums_sha256: "ef".into(),
        };
        (pair, trust, config, manifest)
    }

    #[test]
    fn what_the_key_signed_is_believed_if_it_fits() {
        let (pair, trust, config, manifest) = setting();
        let ask = |trust: &Trust, manifest: &RootManifest| {
            let text = serde_json::to_vec(manifest).expect("plain data");
            let mut config = config.clone();
            config.root.trust = Some(trust.clone());
            let signed = check_signature(&text, &pair.sk.sign(&text, None)[..], trust);
            signed.and_then(|()| check(&text, &config)).map_err(|e| e.to_string())
        };
        let (sha256, tree_sums_sha256) = ("cd".into(), "ef".into());
        let facts = ImageFacts { size: 8192, sha256, image: RootImage::Erofs, tree_sums_sha256, verity: None };
        assert_eq!(ask(&trust, &manifest), Ok(facts.clone()));
        let old = RootManifest { serial: 9, ..manifest.clone() };
        assert_eq!(ask(&trust, &old), Err("its serial is 9, and this initrd refuses what is older than 10".into()));
        assert_eq!(ask(&Trust { refuse_downgrade: false, ..trust.clone() }, &old), Ok(facts));
        for (manifest, message) in [
            (RootManifest { kind: "other".into(), ..manifest.clone() }, "its kind is `other`"),
            (RootManifest { version: 2, ..manifest.clone() }, "its version is `2`, this initrd takes `1`"),
            (RootManifest { recipe: "other".into(), ..manifest.clone() }, "its recipe is `other`"),
            (
                RootManifest { release: "6.1".into(), ..manifest.clone() },
                "its kernel is `6.1`, this initrd takes `6.12`",
            ),
        ] {
            assert!(ask(&trust, &manifest).expect_err(message).starts_with(message));
        }
    }

    #[test]
    fn anything_else_is_not() {
        let (pair, trust, config, manifest) = setting();
        let text = serde_json::to_vec(&manifest).expect("plain data");
        let good = pair.sk.sign(&text, None);
        let mut changed = text.clone();
        changed[20] ^= 1;
        let other = KeyPair::from_seed(Seed::new([8; 32])).sk.sign(&text, None);
        for (text, signature) in [(&changed, &good[..]), (&text, &other[..]), (&text, &good[..63]), (&text, &[])] {
            assert_eq!(check_signature(text, signature, &trust), Err(TrustError::Signature));
        }
        let nonsense = b"{}".to_vec();
        assert!(matches!(check(&nonsense, &config), Err(TrustError::Json(_))));
        assert!(matches!(check_verity(&nonsense, ""), Err(TrustError::Json(_))));
        for key in ["", "zz", &"zz".repeat(32)] {
            let trust = Trust { key: key.into(), ..trust.clone() };
            assert_eq!(check_signature(&text, &good[..], &trust), Err(TrustError::Key));
        }
        assert_eq!(baked(&config), Err(TrustError::NoFacts));
    }

    #[test]
    fn how_a_root_is_proven_is_said_of_that_root_alone() {
        let verity = Verity { blocks: 7, root_hash: "aa".into() };
        let (kind, sha256) = (VERITY_KIND.into(), "cd".into());
        let manifest = VerityManifest { kind, version: VERSION, sha256, verity: verity.clone() };
        let ask = |manifest: &VerityManifest, sha256: &str| {
            check_verity(&serde_json::to_vec(manifest).expect("plain data"), sha256).map_err(|e| e.to_string())
        };
        assert_eq!(ask(&manifest, "cd"), Ok(verity));
        assert_eq!(ask(&manifest, "ce"), Err("its root's hash is `cd`, this initrd takes `ce`".into()));
        let other = VerityManifest { kind: KIND.into(), ..manifest };
        assert!(ask(&other, "cd").expect_err("another kind").starts_with("its kind is `bootwright-root`"));
    }

    /// It would be of no use, as the image has no program for https, or it cannot be: iPXE's script came by TFTP.
    #[test]
    fn a_manifest_that_cannot_be_asked_for_leaves_the_root_of_this_build() {
        for place in ["tftp://192.0.2.1/root.json", "https://192.0.2.1/root.json"] {
            let (_, trust, mut config, _) = setting();
            let root = &mut config.root;
            (root.trust, root.size, root.sha256, root.tree_sums_sha256) =
                (Some(trust), Some(1), Some("ab".into()), Some("cd".into()));
            let expected = baked(&config);
            let world = World::new(config, &[KEY, "=", place].concat());
            assert_eq!(facts_elsewhere(&world.context()).ok(), expected.ok(), "{place}");
        }
    }

    /// RFC 8032 section 7.1, test 2.
    #[test]
    fn the_rfcs_signature_is_good() {
        let key = key_bytes("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c").expect("hex");
        let half = |text: &str| key_bytes(text).expect("hex");
        let signature = [
            half("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"),
            half("085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
        ]
        .concat();
        let signature = Signature::from_slice(&signature).expect("64 bytes");
        assert!(PublicKey::from_slice(&key).expect("32 bytes").verify([0x72], &signature).is_ok());
    }

    #[test]
    fn the_manifest_lies_beside_the_image() {
        let beside = |path: &str, change: fn(&str) -> String| {
            let Ok(place) = parse_http(&["http://h", path].concat()) else { panic!("{path}") };
            place.with_path(change).path
        };
        assert_eq!(beside("/a/root.img?x=.img", manifest_path), "/a/root.json?x=.img");
        assert_eq!(beside("/a/root.img", signature_path), "/a/root.json.sig");
    }
}
