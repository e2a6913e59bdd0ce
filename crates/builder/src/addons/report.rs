//! The answer, for people and for scripts.

use super::AskedAddon;
use super::contents::{Contents, Standing};
use super::remedy::Remedies;
use crate::error::{Exit, Failure};
use crate::profiles::Need;
use serde::Serialize;

/// Layout of the JSON document.
const VERSION: u32 = 1;

/// Of an add-on on an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is there that it does not run without.
    Fits,
    /// Nothing is known to lack, but there is something that only the running node tells.
    Undecided,
    Lacks,
}

/// One need, and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answered {
    #[serde(flatten)]
    pub need: Need,
    pub standing: Standing,
}

impl Answered {
    fn belongs_to(&self, other: &Self) -> bool {
        let of = |answered: &Self| {
            let Need { kind, why, source, only, .. } = &answered.need;
            (*kind, why.clone(), source.clone(), only.clone(), answered.standing)
        };
        of(self) == of(other)
    }
}

/// What is known of an add-on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AddonAnswer {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where the profile was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub verdict: Verdict,
    pub needs: Vec<Answered>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl AddonAnswer {
    pub fn to(addon: &AskedAddon, contents: &Contents) -> Self {
        let answered = |need: &Need| Answered { need: need.clone(), standing: contents.standing(need) };
        let needs: Vec<Answered> = addon.needs.iter().map(answered).collect();
        let worst =
            needs.iter().filter(|answered| answered.need.only.is_none()).map(|answered| answered.standing).max();
        let verdict = match worst {
            None | Some(Standing::Has) => Verdict::Fits,
            Some(Standing::Unknown) => Verdict::Undecided,
            Some(Standing::Lacks) => Verdict::Lacks,
        };
        let AskedAddon { name, version, source, notes, .. } = addon.clone();
        Self { name, version, source, verdict, needs, notes }
    }

    /// What the add-on does not run without and the image lacks.
    pub fn lacking(&self) -> impl Iterator<Item = &Need> {
        let lacks = |answered: &&Answered| answered.standing == Standing::Lacks && answered.need.only.is_none();
        self.needs.iter().filter(lacks).map(|answered| &answered.need)
    }

    fn headline(&self) -> String {
        let name = match &self.version {
            Some(version) => format!("{} ({version})", self.name),
            None => self.name.clone(),
        };
        let must = self.needs.iter().filter(|answered| answered.need.only.is_none());
        let (all, lacking) = (must.clone().count(), self.lacking().count());
        let unknown = must.filter(|answered| answered.standing == Standing::Unknown).count();
        match self.verdict {
            Verdict::Fits => format!("{name}: fits, {all} of {all} are there"),
            Verdict::Undecided => format!("{name}: undecided, of {all} only the running node tells {unknown}"),
            Verdict::Lacks => format!("{name}: lacks {lacking} of {all}"),
        }
    }

    fn to_text(&self) -> String {
        let mut text = self.headline() + "\n";
        let missing: Vec<&Answered> = self.needs.iter().filter(|answered| answered.standing != Standing::Has).collect();
        // Needs for one reason are one line.
        for group in missing.chunk_by(|a, b| a.belongs_to(b)) {
            let Answered { need, standing } = group[0];
            let word = if *standing == Standing::Lacks { "lacks" } else { "unknown" };
            let names = group.iter().map(|answered| answered.need.name.as_str()).collect::<Vec<_>>().join(", ");
            let only = need.only.as_ref().map(|only| format!("for {only} alone: ")).unwrap_or_default();
            let own_source =
                Some(&need.source).filter(|source| self.source.as_ref() != Some(source) && **source != self.name);
            let source = own_source.map(|source| format!(" ({source})")).unwrap_or_default();
            text += &format!("  {word:<8}{:<8}{names}\n                  {only}{}{source}\n", need.kind, need.why);
        }
        if let (Some(source), false) = (&self.source, missing.is_empty()) {
            text += &format!("  read in {source}\n");
        }
        self.notes.iter().for_each(|note| text += &format!("  note: {note}\n"));
        text
    }
}

/// The whole answer of a run.
#[derive(Debug, Serialize)]
pub struct AddonReport {
    pub version: u32,
    pub recipe: String,
    pub kernel_release: String,
    pub addons: Vec<AddonAnswer>,
    /// What brings all that is lacking.
    pub remedies: Remedies,
}

impl AddonReport {
    pub fn new(recipe: &str, contents: &Contents, addons: Vec<AddonAnswer>, remedies: Remedies) -> Self {
        Self { version: VERSION, recipe: recipe.into(), kernel_release: contents.release.clone(), addons, remedies }
    }

    pub fn to_text(&self) -> String {
        let answers: String = self.addons.iter().map(AddonAnswer::to_text).collect();
        answers + &self.remedies.to_text()
    }

    /// Exit code 1 unless every add-on fits.
    pub fn check(&self) -> Result<(), Failure> {
        let of = |verdict| {
            self.addons.iter().filter(move |answer| answer.verdict == verdict).map(|answer| answer.name.as_str())
        };
        let (lacking, undecided): (Vec<&str>, Vec<&str>) =
            (of(Verdict::Lacks).collect(), of(Verdict::Undecided).collect());
        let quoted = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let (message, help) = match (&lacking[..], &undecided[..]) {
            ([], []) => return Ok(()),
            ([], names) => (
                format!("whether image `{}` is enough for {} only the running node tells", self.recipe, quoted(names)),
                "look at the lines that say unknown",
            ),
            (names, _) => (
                format!("image `{}` is not enough for {}", self.recipe, quoted(names)),
                "add the recipe lines above to a recipe that extends it",
            ),
        };
        Err(Failure { exit: Exit::Other, message, help: Some(help.into()) })
    }
}
