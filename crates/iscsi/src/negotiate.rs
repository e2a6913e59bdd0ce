//! The operational parameters of a session (RFC 7143 section 13): our offer, and what the target's answers make of it.

use super::text::{Text, TextError, parse_flag, parse_number};

/// Bytes of data that we accept in one PDU.
const OUR_SEGMENT: u32 = 256 << 10;
/// Bytes of unsolicited data, and of one sequence, that we offer to send.
const FIRST_BURST: u32 = 256 << 10;
const MAX_BURST: u32 = 1 << 20;

/// Why initiator and target cannot agree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NegotiateError {
    #[error("the target rejected `{key}={value}`")]
    Rejected { key: String, value: String },
    #[error("the target insists on `{key}={value}`")]
    Insists { key: String, value: String },
    #[error(transparent)]
    Text(#[from] TextError),
}

/// The parameters that are in effect; at first the defaults of RFC 7143 section 13.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    pub header_digest: bool,
    pub data_digest: bool,
    pub initial_r2t: bool,
    pub immediate_data: bool,
    pub max_burst: u32,
    pub first_burst: u32,
    /// Bytes of data that the target accepts in one PDU.
    pub their_segment: u32,
    pub our_segment: u32,
    /// Seconds to wait before a new login after a lost connection.
    pub wait_s: u32,
    pub portal_group: Option<u32>,
}

impl Default for Agreed {
    fn default() -> Agreed {
        Agreed {
            header_digest: false,
            data_digest: false,
            initial_r2t: true,
            immediate_data: true,
            max_burst: 256 << 10,
            first_burst: 64 << 10,
            their_segment: 8192,
            our_segment: OUR_SEGMENT,
            wait_s: 2,
            portal_group: None,
        }
    }
}

/// The offer. A discovery session sends no commands, so only the size of PDUs matters.
pub fn offer(discovery: bool) -> Text {
    let mut text = Text::default();
    let segment = OUR_SEGMENT.to_string();
    if discovery {
        for (key, value) in [("HeaderDigest", "None"), ("DataDigest", "None"), ("MaxRecvDataSegmentLength", &segment)] {
            text.push(key, value);
        }
        return text;
    }
    for (key, value) in [
        ("HeaderDigest", "None,CRC32C"),
        ("DataDigest", "None,CRC32C"),
        ("DefaultTime2Wait", "0"),
        ("DefaultTime2Retain", "0"),
        ("ErrorRecoveryLevel", "0"),
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("MaxBurstLength", &MAX_BURST.to_string()),
        ("FirstBurstLength", &FIRST_BURST.to_string()),
        ("MaxOutstandingR2T", "1"),
        ("MaxConnections", "1"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("MaxRecvDataSegmentLength", &segment),
    ] {
        text.push(key, value);
    }
    text
}

impl Agreed {
    /// Takes the target's text, and returns the answers that it expects.
    ///
    /// # Errors
    /// [`NegotiateError`]
    pub fn take(&mut self, said: &Text, offered: &Text) -> Result<Text, NegotiateError> {
        let mut answers = Text::default();
        for (key, value) in said.pairs() {
            match value {
                "Reject" => return Err(NegotiateError::Rejected { key: key.into(), value: our_value(offered, key) }),
                // The default stays in effect.
                "NotUnderstood" | "Irrelevant" => {}
                _ => self.take_one(key, value, &mut answers)?,
            }
        }
        // Unsolicited data must not exceed the data of a whole sequence (section 13.14).
        self.first_burst = self.first_burst.min(self.max_burst);
        Ok(answers)
    }

    fn take_one(&mut self, key: &str, value: &str, answers: &mut Text) -> Result<(), NegotiateError> {
        let number = || parse_number(key, value);
        let insists = || NegotiateError::Insists { key: key.into(), value: value.into() };
        let length = || match number() {
            Ok(0) => Err(zero(key, value)),
            read => read,
        };
        match key {
            "HeaderDigest" => self.header_digest = parse_digest(value).ok_or_else(insists)?,
            "DataDigest" => self.data_digest = parse_digest(value).ok_or_else(insists)?,
            "InitialR2T" => self.initial_r2t = parse_flag(key, value)?,
            "ImmediateData" => self.immediate_data = parse_flag(key, value)?,
            "MaxBurstLength" => self.max_burst = length()?.min(MAX_BURST),
            "FirstBurstLength" => self.first_burst = length()?.min(FIRST_BURST),
            "MaxRecvDataSegmentLength" => self.their_segment = length()?.min(0xff_ffff),
            "DefaultTime2Wait" => self.wait_s = number()?.min(3600),
            "TargetPortalGroupTag" => self.portal_group = Some(number()?),
            // We have offered the lowest value, or the only one that we support.
            "DataPDUInOrder" | "DataSequenceInOrder" if value == "Yes" => {}
            "ErrorRecoveryLevel" | "DefaultTime2Retain" if value == "0" => {}
            "MaxOutstandingR2T" | "MaxConnections" if value == "1" => {}
            "DataPDUInOrder"
            | "DataSequenceInOrder"
            | "ErrorRecoveryLevel"
            | "MaxOutstandingR2T"
            | "MaxConnections" => {
                return Err(insists());
            }
            // Declarations, or keys of the security stage.
            "TargetAlias" | "TargetAddress" | "AuthMethod" | "DefaultTime2Retain" => {}
            _ => answers.push(key, "NotUnderstood"),
        }
        Ok(())
    }
}

fn zero(key: &str, value: &str) -> TextError {
    TextError::Value { key: key.into(), expected: "length", value: value.into() }
}

fn our_value(offered: &Text, key: &str) -> String {
    offered.value(key).unwrap_or_default().into()
}

fn parse_digest(value: &str) -> Option<bool> {
    match value {
        "None" => Some(false),
        "CRC32C" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::parse_text;
    use super::*;
    use proptest::prelude::*;

    fn text(pairs: &str) -> Text {
        parse_text(pairs.replace(' ', "\0").as_bytes()).unwrap()
    }

    #[test]
    fn a_usual_answer() {
        let mut agreed = Agreed::default();
        let said = "HeaderDigest=None DataDigest=CRC32C InitialR2T=Yes ImmediateData=No MaxBurstLength=65536 \
                    FirstBurstLength=131072 MaxRecvDataSegmentLength=16384 DefaultTime2Wait=5 TargetPortalGroupTag=1 \
                    TargetAlias=x MaxConnections=1 ErrorRecoveryLevel=0 X-com.vendor=1";
        let answers = agreed.take(&text(said), &offer(false)).unwrap();
        assert_eq!(answers, text("X-com.vendor=NotUnderstood"));
        let expected = Agreed {
            header_digest: false,
            data_digest: true,
            initial_r2t: true,
            immediate_data: false,
            max_burst: 65_536,
            first_burst: 65_536,
            their_segment: 16_384,
            our_segment: 262_144,
            wait_s: 5,
            portal_group: Some(1),
        };
        assert_eq!(agreed, expected);
    }

    #[test]
    fn silence_keeps_the_defaults() {
        let mut agreed = Agreed::default();
        agreed.take(&text("FirstBurstLength=Irrelevant MaxBurstLength=NotUnderstood"), &offer(false)).unwrap();
        assert_eq!(agreed, Agreed::default());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (said, error) in [
            ("MaxConnections=Reject", "the target rejected `MaxConnections=1`"),
            ("MaxConnections=2", "the target insists on `MaxConnections=2`"),
            ("DataPDUInOrder=No", "the target insists on `DataPDUInOrder=No`"),
            ("ErrorRecoveryLevel=2", "the target insists on `ErrorRecoveryLevel=2`"),
            ("HeaderDigest=MD5", "the target insists on `HeaderDigest=MD5`"),
            ("InitialR2T=Maybe", "`InitialR2T` is no Yes or No: `Maybe`"),
            ("MaxBurstLength=0", "`MaxBurstLength` is no length: `0`"),
            ("MaxBurstLength=x", "`MaxBurstLength` is no number: `x`"),
        ] {
            assert_eq!(Agreed::default().take(&text(said), &offer(false)).unwrap_err().to_string(), error);
        }
    }

    proptest! {
        #[test]
        fn results_stay_within_the_offer(burst: u32, first: u32, segment: u32, wait: u32) {
            let said = text(&format!(
                "MaxBurstLength={burst} FirstBurstLength={first} MaxRecvDataSegmentLength={segment} DefaultTime2Wait={wait}"
            ));
            let mut agreed = Agreed::default();
            if agreed.take(&said, &offer(false)).is_ok() {
                prop_assert!(agreed.first_burst <= agreed.max_burst && agreed.max_burst <= MAX_BURST);
                prop_assert!(agreed.first_burst <= FIRST_BURST && agreed.wait_s <= 3600);
                prop_assert!(agreed.their_segment > 0 && agreed.their_segment < 1 << 24);
            }
        }
    }
}
