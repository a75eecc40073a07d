//! How a node and its host find out that they belong together: same version, same run, same secret.
//!
//! `Hello` and `Challenge` exchange fresh numbers, after TLS where there is such; the host's proof is in the latter, the node's is the seal of all that it
//! sends from then on. Neither side shows the secret, and nothing that was recorded once is of use later.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::messages::Facts;
use super::secret::Secret;
use super::standing::Ask;
use super::tls::Tls;
use super::wire::Seal;

const VERSION: u32 = 2;

/// What both sides must agree on.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) secret: Option<Secret>,
    pub(super) tls: Option<Tls>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Hello {
    version: u32,
    run_id: String,
    nonce: String,
    has_secret: bool,
}

/// The host's answer to a `Hello`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Challenge {
    Proof { nonce: String, proof: Option<[u8; 32]> },
    Refused(String),
}

/// What a node comes for, once both sides are proven.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Request {
    Join(Join),
    Ask(Ask),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Join {
    /// Which launcher this is, so that the host knows its own, and voters.
    pub(super) launcher: String,
    pub(super) facts: Facts,
    /// The port at which it answers other nodes.
    pub(super) door: Option<u16>,
    /// And the address there, if it listens at one of the endpoints: it may have others.
    pub(super) door_address: Option<String>,
    /// Its group rank in the last attempt of this run that it took part in.
    pub(super) was: Option<u32>,
    /// The highest term that it has promised anything for.
    pub(super) promised: u64,
}

/// 244 random bits.
fn fresh_number() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

impl Run {
    pub(super) fn hello(&self) -> Hello {
        let has_secret = self.secret.is_some();
        Hello { version: VERSION, run_id: self.id.clone(), nonce: fresh_number(), has_secret }
    }

    /// The host's side: its answer, and the seal of what follows.
    pub(super) fn answer(&self, hello: &Hello) -> Result<(Challenge, Seal), String> {
        if hello.version != VERSION {
            let theirs = hello.version;
            return Err(format!(
                "this zenith-run speaks version {theirs} of the rendezvous, and the host's version {VERSION}; install the same on all nodes"
            ));
        }
        match (&self.secret, hello.has_secret) {
            (Some(_), false) => {
                return Err("the host demands a secret, and this node has none; give it the same file by \
                            --rdzv-conf=secret_file=PATH or $ZENITH_RDZV_SECRET_FILE"
                    .into());
            }
            (None, true) => {
                return Err("this node has a secret, and the host has none; give the host the same file by \
                            --rdzv-conf=secret_file=PATH or $ZENITH_RDZV_SECRET_FILE"
                    .into());
            }
            _ => {}
        }
        let nonce = fresh_number();
        let texts = [self.id.as_str(), &hello.nonce, &nonce];
        // Before the secret is proven, so that a run id of another job is not taken for a wrong secret.
        if hello.run_id != self.id {
            return Err(
                "another run meets at this endpoint: --rdzv-id is not the host's. Give the same to all nodes, \
                        or choose another port"
                    .into(),
            );
        }
        let proof = self.secret.as_ref().map(|secret| secret.derive("host", &texts).tag(&[]));
        let seal = Seal::new(self.secret.as_ref().map(|secret| secret.derive("session", &texts)), true);
        Ok((Challenge::Proof { nonce, proof }, seal))
    }

    /// The node's side.
    pub(super) fn accept(&self, hello: &Hello, answer: Challenge) -> Result<Seal, String> {
        let (nonce, proof) = match answer {
            Challenge::Refused(why) => return Err(why),
            Challenge::Proof { nonce, proof } => (nonce, proof),
        };
        let texts = [self.id.as_str(), &hello.nonce, &nonce];
        let key = match (&self.secret, proof) {
            (None, _) => None,
            (Some(secret), Some(proof)) if secret.derive("host", &texts).verifies(&[], &proof) => {
                Some(secret.derive("session", &texts))
            }
            (Some(_), _) => {
                return Err("the host's secret is not this node's; copy the same file to all nodes".into());
            }
        };
        Ok(Seal::new(key, false))
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::Report;
    use super::*;

    fn run(id: &str, secret: Option<&str>) -> Run {
        let secret = secret.map(|text| {
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::write(folder.path().join("s"), text).expect("a file");
            Secret::read(&folder.path().join("s")).expect("a secret")
        });
        Run { id: id.into(), secret, tls: None }
    }

    fn meet(node: &Run, host: &Run) -> Result<(), String> {
        let hello = node.hello();
        let (answer, mut hosts) = host.answer(&hello)?;
        let mut nodes = node.accept(&hello, answer)?;
        let frame = nodes.frame(&Report::Beat);
        hosts.open::<Report>(&frame[4..]).map(|_| ()).map_err(|error| error.to_string())
    }

    #[test]
    fn who_shares_run_and_secret_meets() {
        assert_eq!(meet(&run("r", None), &run("r", None)), Ok(()));
        assert_eq!(meet(&run("r", Some("s")), &run("r", Some("s"))), Ok(()));
    }

    #[test]
    fn others_are_told_which_side_lacks_what() {
        for (node, host, told) in [
            (run("r", None), run("r", Some("s")), "this node has none"),
            (run("r", Some("s")), run("r", None), "the host has none"),
            (run("r", Some("s")), run("r", Some("t")), "the host's secret is not this node's"),
            (run("q", None), run("r", None), "--rdzv-id is not the host's"),
        ] {
            let error = meet(&node, &host).expect_err(told);
            assert!(error.contains(told), "{error}");
        }
        let old = Hello { version: 0, ..run("r", None).hello() };
        assert!(run("r", None).answer(&old).expect_err("another version").contains("version 0"));
    }

    #[test]
    fn an_impostor_without_the_secret_is_no_host() {
        let node = run("r", Some("s"));
        let (hello, impostor) = (node.hello(), run("r", Some("guess")));
        let (answer, _) = impostor.answer(&hello).expect("it says it has one");
        assert!(node.accept(&hello, answer).is_err());
        let without = Challenge::Proof { nonce: "1".into(), proof: None };
        assert!(node.accept(&hello, without).is_err());
    }
}
