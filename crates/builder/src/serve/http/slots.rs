//! A number of places that clients share: whoever holds many makes room for whoever holds few.

use super::client::{Client, KnownClients};
use super::connection::Connection;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a request goes on before a newer one of the same client may take its place.
const GRACE: Duration = Duration::from_secs(10);

/// How many places there are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlotLimits {
    pub all: usize,
    pub by_client: usize,
}

/// The places of connections, or of the requests of a route that are answered at the same time.
///
/// A newcomer that finds none takes one: of its own client, if that has as many as it may; else of the client that holds most.
/// Of a client's places the first to go are those that wait for it to ask, the oldest first, then the slowest. A client never loses
/// an answer that it is being given to one that would hold as many as it, and a known node never loses a place to a stranger.
#[derive(Debug, Clone)]
pub struct SlotPool(Arc<SlotTable>);

#[derive(Debug)]
struct SlotTable {
    limits: SlotLimits,
    known: KnownClients,
    holders: Mutex<Holders>,
}

#[derive(Debug, Default)]
struct Holders {
    last_id: u64,
    list: Vec<SlotHolder>,
    /// How many of the list each client has.
    counts: HashMap<Client, usize>,
}

impl Holders {
    fn count(&self, client: Client) -> usize {
        self.counts.get(&client).copied().unwrap_or(0)
    }

    fn add(&mut self, holder: SlotHolder) {
        *self.counts.entry(holder.connection.client).or_default() += 1;
        self.list.push(holder);
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Connection>> {
        let at = self.list.iter().position(|holder| holder.id == id)?;
        let connection = self.list.remove(at).connection;
        if let Entry::Occupied(mut count) = self.counts.entry(connection.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(connection)
    }
}

#[derive(Debug)]
struct SlotHolder {
    id: u64,
    since: Instant,
    /// What the connection had moved then.
    moved: u64,
    connection: Arc<Connection>,
    /// Bytes that the client should have taken by now, see [`SlotPool::press`].
    debt: u64,
    /// What the connection had moved at the last look.
    looked: u64,
}

impl SlotHolder {
    /// Bytes a second, roughly.
    fn rate(&self, now: Instant) -> u64 {
        let age_s = now.saturating_duration_since(self.since).as_secs() + 1;
        self.connection.moved().saturating_sub(self.moved) / age_s
    }
}

/// A place; it is free again on drop.
#[derive(Debug)]
pub struct Slot {
    places: SlotPool,
    id: u64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.places.holders().remove(self.id);
    }
}

impl SlotPool {
    pub fn new(limits: SlotLimits, known: KnownClients) -> Self {
        Self(Arc::new(SlotTable { limits, known, holders: Mutex::default() }))
    }

    fn holders(&self) -> MutexGuard<'_, Holders> {
        self.0.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place; where another connection has to make room, that one is ended. `None`: there is none for this client.
    pub fn enter(&self, connection: &Arc<Connection>, now: Instant) -> Option<Slot> {
        let mut holders = self.holders();
        if let Some(loser) = self.room(&holders, connection.client, now)?
            && let Some(connection) = holders.remove(loser)
        {
            connection.end();
        }
        holders.last_id += 1;
        let (id, moved) = (holders.last_id, connection.moved());
        holders.add(SlotHolder { id, since: now, moved, connection: connection.clone(), debt: 0, looked: moved });
        Some(Slot { places: self.clone(), id })
    }

    /// `Some(None)`: there is a place; `Some(Some(id))`: that holder has to go; `None`: nobody makes room.
    fn room(&self, holders: &Holders, client: Client, now: Instant) -> Option<Option<u64>> {
        let SlotLimits { all, by_client } = self.0.limits;
        let own = holders.count(client);
        if own < by_client && holders.list.len() < all {
            return Some(None);
        }
        let known = self.0.known.all();
        let is_known = known.contains(&client);
        let goes = |holder: &SlotHolder| {
            let other = holder.connection.client;
            let (idle, theirs, protected) = (holder.connection.is_idle(), holders.count(other), known.contains(&other));
            let may_go = match own >= by_client {
                true => other == client && (idle || now.saturating_duration_since(holder.since) > GRACE),
                false if protected && !is_known => false,
                false if is_known && !protected => true,
                false => theirs > own + usize::from(!idle),
            };
            // An idle one was asked for nothing since it came: the oldest goes.
            let rate = if idle { 0 } else { holder.rate(now) };
            may_go.then_some((protected, Reverse(theirs), !idle, rate, holder.id))
        };
        holders.list.iter().filter_map(goes).min().map(|(.., id)| Some(id))
    }

    /// Ends the connections whose clients take less than `least` bytes a second of what is there for them, once they are `patience`
    /// behind. A connection that waits for us owes nothing. To be called once a second.
    pub fn press(&self, least: u64, patience: Duration) {
        let most = least * patience.as_secs();
        for holder in &mut self.holders().list {
            let moved = holder.connection.moved();
            let took = moved - holder.looked;
            holder.looked = moved;
            let due = if holder.connection.is_full() { least } else { 0 };
            holder.debt = (holder.debt + due).saturating_sub(took);
            if holder.debt > most {
                holder.connection.end();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    const LIMITS: SlotLimits = SlotLimits { all: 6, by_client: 4 };

    fn client(n: u8) -> Client {
        Client::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, n)))
    }

    /// A room with its places, by the names that the cases give them.
    struct Room {
        places: SlotPool,
        taken: Vec<(&'static str, Slot, Arc<Connection>)>,
        now: Instant,
    }

    impl Room {
        fn new(known: &[u8]) -> Self {
            let clients = KnownClients::default();
            clients.set(known.iter().map(|n| client(*n)).collect());
            Self { places: SlotPool::new(LIMITS, clients), taken: Vec::new(), now: Instant::now() }
        }

        fn enter(&mut self, name: &'static str, from: u8, asked: bool) -> bool {
            let connection = Arc::new(Connection::new(client(from)));
            connection.set_asked(asked);
            let place = self.places.enter(&connection, self.now);
            let entered = place.is_some();
            self.taken.extend(place.map(|place| (name, place, connection)));
            entered
        }

        /// Who had to go.
        fn gone(&self) -> Vec<&'static str> {
            let holders = self.places.holders();
            let holds = |id| holders.list.iter().any(|holder| holder.id == id);
            self.taken.iter().filter(|(_, place, _)| !holds(place.id)).map(|(name, ..)| *name).collect()
        }
    }

    #[test]
    fn a_client_makes_room_for_itself_oldest_idle_place_first() {
        let mut room = Room::new(&[]);
        for (name, asked) in [("a", true), ("b", false), ("c", false), ("d", false)] {
            assert!(room.enter(name, 1, asked));
        }
        assert!(room.enter("e", 1, false) && room.enter("f", 1, false));
        assert_eq!(room.gone(), ["b", "c"]);
    }

    #[test]
    fn answers_of_one_client_are_ended_only_when_they_are_old_and_the_slowest_first() {
        let mut room = Room::new(&[]);
        for name in ["a", "b", "c", "d"] {
            assert!(room.enter(name, 1, true));
        }
        assert!(!room.enter("e", 1, true), "all of them are young");
        for (i, (.., connection)) in room.taken.iter().enumerate() {
            connection.add([500, 100, 700, 900][i]);
        }
        room.now += GRACE + Duration::from_secs(1);
        assert!(room.enter("f", 1, true));
        assert_eq!(room.gone(), ["b"]);
    }

    #[test]
    fn who_holds_most_makes_room_for_who_holds_few() {
        let mut room = Room::new(&[]);
        for (name, from, asked) in
            [("a1", 1, false), ("b1", 2, true), ("b2", 2, true), ("b3", 2, true), ("b4", 2, true), ("a2", 1, false)]
        {
            assert!(room.enter(name, from, asked));
        }
        assert!(room.enter("c1", 3, false));
        assert_eq!(room.gone(), ["b1"], "an idle one of the client with few stays");
        assert!(room.enter("c2", 3, true));
        assert_eq!(room.gone(), ["b1", "b2"]);
        assert!(!room.enter("c3", 3, true), "all hold two");
    }

    #[test]
    fn nobody_loses_an_answer_to_one_that_would_hold_as_many() {
        let mut room = Room::new(&[]);
        for (i, name) in ["a", "b", "c", "d", "e", "f"].into_iter().enumerate() {
            assert!(room.enter(name, i as u8, true));
        }
        assert!(!room.enter("g", 9, true));
        room.taken[3].2.set_asked(false);
        assert!(room.enter("h", 9, true), "an idle connection makes room");
        assert_eq!(room.gone(), ["d"]);
    }

    #[test]
    fn strangers_take_no_place_of_a_known_node() {
        let mut room = Room::new(&[1, 2]);
        for (name, from) in [("a1", 1), ("a2", 1), ("a3", 1), ("a4", 1), ("x", 8), ("y", 9)] {
            assert!(room.enter(name, from, false));
        }
        assert!(room.enter("z", 7, false));
        assert_eq!(room.gone(), ["x"], "though the known one has more");
        for (.., connection) in &room.taken {
            connection.set_asked(true);
        }
        assert!(room.enter("b1", 2, true), "a stranger's answer makes room for a known node");
        assert_eq!(room.gone(), ["x", "y"]);
        assert!(room.enter("b2", 2, true) && !room.enter("w", 6, true), "only known ones are left: {:?}", room.gone());
    }

    #[test]
    fn a_place_is_free_when_it_is_left() {
        let mut room = Room::new(&[]);
        for name in ["a", "b", "c", "d"] {
            assert!(room.enter(name, 1, true));
        }
        assert!(!room.enter("e", 1, true));
        drop(room.taken.remove(0));
        assert!(room.enter("f", 1, true));
        assert!(room.gone().is_empty());
    }

    /// Whether a connection was ended while it stood full for `seconds` and took `bytes` in each.
    fn pressed(full: bool, bytes: u64, seconds: u32) -> bool {
        let places = SlotPool::new(LIMITS, KnownClients::default());
        let connection = Arc::new(Connection::new(client(1)));
        let _place = places.enter(&connection, Instant::now()).unwrap();
        connection.set_full(full);
        for _ in 0..seconds {
            connection.add(bytes);
            places.press(1000, Duration::from_secs(10));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::ZERO, connection.ended()).await.is_ok() })
    }

    #[test]
    fn who_takes_too_little_is_ended() {
        assert!(!pressed(true, 0, 10) && pressed(true, 0, 11), "ten seconds of patience");
        assert!(!pressed(true, 500, 20) && pressed(true, 500, 21));
        assert!(!pressed(true, 1000, 100));
        assert!(!pressed(false, 0, 100), "it waits for us");
    }
}
