//! `/join`: machines of nodes.toml get their certificates here, and what their kubelets ask for later is approved.

use super::ServeError;
use super::http::{Bounds, Route, SlotLimits};
use super::log::{Log, Weight};
use super::state::BadJoin;
use super::status::SharedStatus;
use crate::chain::BootImage;
use crate::cluster::join::{JoinError, JoinQuestion, PATH, Registrar, SignedAnswer};
use crate::cluster::{Api, Approver, ClusterError, load_kubeconfig};
use crate::nodes::Cluster;
use crate::signing::load_signing_key;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A question is a kilobyte. An answer waits for the cluster, on a thread of its own: a rack that starts asks all at once.
const BOUNDS: Bounds = Bounds {
    body: 16 << 10,
    time: Duration::from_secs(45),
    at_once: SlotLimits { all: 64, by_client: 24 },
    per_s: 20,
    stroke: 100,
};
/// Between two looks at what kubelets ask for.
const PAUSE: Duration = Duration::from_secs(1);

/// Where machines ask.
#[derive(Clone)]
pub struct JoinDesk {
    registrar: Arc<Registrar>,
    lab: Arc<SharedStatus>,
    log: Log,
}

impl JoinDesk {
    /// Reads the cluster's credential and key.
    ///
    /// # Errors
    /// [`ServeError::Cluster`] for files that cannot be used. A cluster that does not answer is told of, and asked again.
    pub fn open(
        cluster: &Cluster,
        images: &[BootImage],
        lab: &Arc<SharedStatus>,
        log: &Log,
    ) -> Result<Self, ServeError> {
        let open = || {
            let api = Api::new(&load_kubeconfig(&cluster.credentials, None)?)?;
            Ok::<_, ClusterError>((api, load_signing_key(&cluster.signing_key)?))
        };
        let (api, key) = open().map_err(|cause| ServeError::Cluster(Box::new(cause)))?;
        let kubelets = images.iter().filter_map(|image| Some((image.name.clone(), image.kubelet?))).collect();
        let registrar = Arc::new(Registrar { cluster: cluster.clone(), api, key, kubelets });
        log.say(Weight::Line, format!("machines of nodes.toml join the cluster `{}`", cluster.name));
        Ok(Self { registrar, lab: lab.clone(), log: log.clone() })
    }

    pub fn route(&self) -> Route {
        Route { path: PATH.into(), bounds: BOUNDS, answer: post(join).with_state(self.clone()) }
    }

    /// Approves what kubelets ask for, on a thread of its own, until the process ends. `booted`: images that nodes of nodes.toml boot.
    pub fn approve(&self, booted: BTreeSet<String>) {
        let desk = self.clone();
        std::thread::spawn(move || {
            for image in booted {
                if let Err(cause) = desk.registrar.check_skew(&image) {
                    desk.log.say(Weight::Line, format!("warning: {cause}"));
                }
            }
            let (mut approver, mut trouble) = (Approver::default(), None);
            loop {
                let looked = approver.look(&desk.registrar.api, |node| desk.lab.nodes().addresses_of(node));
                let now = looked.as_ref().err().map(ToString::to_string);
                looked.into_iter().flatten().for_each(|line| desk.log.say(Weight::Line, line));
                // Said when it begins, and when it is over.
                if now.is_some() != trouble.is_some() {
                    let cluster = &desk.registrar.cluster.name;
                    let over = || format!("the cluster `{cluster}` answers again");
                    desk.log.say(Weight::Line, now.as_ref().map_or_else(over, |cause| format!("warning: {cause}")));
                }
                trouble = now;
                std::thread::sleep(PAUSE);
            }
        });
    }

    fn answer(&self, body: &[u8], from: IpAddr) -> Result<SignedAnswer, JoinError> {
        let question = JoinQuestion::parse(body)?;
        let mac = question.mac().map(|mac| mac.to_string());
        let machine = self.lab.nodes().machine(mac.as_deref(), question.uuid().as_deref(), from, Instant::now());
        let node = machine.map_err(|problem| match problem {
            BadJoin::Stranger => JoinError::Stranger { mac: question.mac.clone(), uuid: question.uuid.clone() },
            BadJoin::NotItsAddress { name } => JoinError::NotItsAddress { name },
        })?;
        let answer = self.registrar.answer(&question, &node.hostname, &node.image, from)?;
        self.log.say(Weight::Line, format!("{from} joins as {}", node.hostname));
        Ok(answer)
    }
}

async fn join(State(desk): State<JoinDesk>, ConnectInfo(client): ConnectInfo<SocketAddr>, body: Bytes) -> Response {
    let from = client.ip().to_canonical();
    let (tell, told) = oneshot::channel();
    let asked = desk.clone();
    std::thread::spawn(move || {
        // Who asked may have gone.
        let _ = tell.send(asked.answer(&body, from));
    });
    match told.await {
        Ok(Ok(answer)) => {
            let text = serde_json::to_vec(&answer).expect("plain data");
            ([(CONTENT_TYPE, "application/json")], text).into_response()
        }
        Ok(Err(refusal)) => {
            desk.log.say(Weight::Line, format!("{from} does not join: {refusal}"));
            (status(&refusal), format!("{refusal}\n")).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn status(refusal: &JoinError) -> StatusCode {
    match refusal {
        JoinError::BadQuestion { .. } => StatusCode::BAD_REQUEST,
        JoinError::Stranger { .. } | JoinError::OtherNode { .. } | JoinError::Skew { .. } => StatusCode::FORBIDDEN,
        JoinError::NotItsAddress { .. } => StatusCode::CONFLICT,
        JoinError::Certify(_) => StatusCode::BAD_GATEWAY,
    }
}
