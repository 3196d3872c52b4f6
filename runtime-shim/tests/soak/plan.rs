//! What is sent, and what each delivery of it must lead to. Made of a seed alone.

use fastrand::Rng;

/// What the component does with a message; numbers say how many deliveries fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ok,
    Slow(u64),
    Trap(u64),
    Error(u64),
    Leave(u64),
    Late(u64),
    Poison,
    Reject,
}

impl Kind {
    /// In a thousand: 5 of poison, 5 that the component rejects, 124 that fail at first.
    fn random(rng: &mut Rng) -> Self {
        let times = rng.u64(1..=2);
        match rng.u32(0..1000) {
            0..5 => Self::Poison,
            5..10 => Self::Reject,
            10..20 => Self::Leave(1),
            20..24 => Self::Late(1),
            24..74 => Self::Trap(times),
            74..134 => Self::Error(times),
            134..174 => Self::Slow(rng.u64(10..200)),
            _ => Self::Ok,
        }
    }

    fn words(self) -> String {
        match self {
            Self::Ok => "ok".to_owned(),
            Self::Slow(millis) => format!("slow {millis}"),
            Self::Trap(times) => format!("trap {times}"),
            Self::Error(times) => format!("error {times}"),
            Self::Leave(times) => format!("leave {times}"),
            Self::Late(times) => format!("late {times}"),
            Self::Poison => "poison".to_owned(),
            Self::Reject => "reject".to_owned(),
        }
    }

    /// Whether it ends in the dead-letter queue.
    pub fn dies(self) -> bool {
        matches!(self, Self::Poison | Self::Reject)
    }

    /// Whether the delivery of this count is to leave the effect.
    pub fn completes(self, receive_count: u64) -> bool {
        match self {
            Self::Ok | Self::Slow(_) => true,
            Self::Trap(times) | Self::Error(times) | Self::Leave(times) | Self::Late(times) => {
                receive_count > times
            }
            Self::Poison | Self::Reject => false,
        }
    }
}

/// One message.
pub struct Planned {
    pub body: String,
    pub kind: Kind,
    /// Of a FIFO queue: its group, and which of the group it is.
    pub group: Option<String>,
    pub number: u64,
}

impl Planned {
    fn new(kind: Kind, group: Option<String>, number: u64) -> Self {
        let name = group.as_deref().unwrap_or("-");
        Self {
            body: format!("{name} {number} {}", kind.words()),
            kind,
            group,
            number,
        }
    }
}

/// Messages for a standard queue.
pub fn standard(seed: u64, messages: u64) -> Vec<Planned> {
    let mut rng = Rng::with_seed(seed);
    (0..messages)
        .map(|number| Planned::new(Kind::random(&mut rng), None, number))
        .collect()
}

/// Messages for a FIFO queue, in groups of about a hundred. What always fails is sent
/// first, in short groups of its own, whose others must wait for its end and then
/// have their effects all the same.
pub fn fifo(seed: u64, messages: u64) -> Vec<Planned> {
    let mut rng = Rng::with_seed(seed ^ 0xF1F0);
    let groups = (messages / 100).max(8);
    let short = (groups / 8).max(2);
    let mut numbers = vec![0; groups as usize];
    let mut planned: Vec<Planned> = Vec::new();
    let mut add = |group: u64, kind: Kind| {
        let number = &mut numbers[group as usize];
        planned.push(Planned::new(kind, Some(format!("g{group}")), *number));
        *number += 1;
    };
    for group in 0..short {
        for kind in [
            Kind::Ok,
            Kind::Poison,
            Kind::Ok,
            Kind::Ok,
            Kind::Ok,
            Kind::Ok,
        ] {
            add(group, kind);
        }
    }
    for _ in short * 6..messages {
        let kind = match Kind::random(&mut rng) {
            Kind::Poison => Kind::Reject,
            other => other,
        };
        add(rng.u64(short..groups), kind);
    }
    planned
}
