//! The stable names of refusals that programs may act on, and what to do next about each.
//!
//! They stand as `code` in the JSON of an error and in brackets behind the text of one. A code
//! never changes its meaning; a new meaning gets a new code.

/// One name: what it says, and the next step where the refusal itself names no better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    /// As it stands in answers.
    pub(crate) name: &'static str,
    /// The next step.
    pub(crate) next: &'static str,
}

/// A slot that already holds another choice.
pub(crate) const SLOT_USED: Code = Code {
    name: "E_SLOT_USED",
    next: "a slot takes one ballot for ever; the same choice again sends the stored ballot, and a \
           further round opens when every document of this one is dead",
};

/// Others know statements or ballots that this folder lacks.
pub(crate) const LOG_BEHIND: Code = Code {
    name: "E_LOG_BEHIND",
    next: "run `borgios sync` with `--node HOST:PORT` or `--exchange DIR`, then try again",
};

/// A ballot of this governor's name exists that this folder did not make.
pub(crate) const CLONE: Code = Code {
    name: "E_CLONE",
    next: "vote with the folder that made that ballot; two copies that vote can give the key share \
           away. If this one is to count: `borgios governor repair --anew --exchange DIR`",
};

/// A governor without whose published nonces no signature with them is possible.
pub(crate) const POOL_MISSING: Code = Code {
    name: "E_POOL_MISSING",
    next: "that governor runs `borgios sync` on their own laptop, which publishes new nonces; then \
           run this again. Or vote for the other signing sets with `--without NAME`",
};

/// An approval of what was not looked at here.
pub(crate) const UNREVIEWED: Code =
    Code { name: "E_UNREVIEWED", next: "`borgios review ID` shows what it would change" };

/// An approval of a document whose rival came after its review.
pub(crate) const RIVAL: Code = Code {
    name: "E_RIVAL",
    next: "`borgios review ID` shows both documents for the place; agree with the others on one",
};

/// A round that is not open, or not any more.
pub(crate) const ROUND_CLOSED: Code = Code {
    name: "E_ROUND_CLOSED",
    next: "`borgios inbox` shows which round of the place is open; time opens none",
};

/// A ballot after which the place could neither pass nor die.
pub(crate) const UNDECIDABLE: Code = Code {
    name: "E_UNDECIDABLE",
    next: "agree with the others on one document first; `borgios inbox` shows who said what",
};

/// A ruling on a place at which nothing is undecided.
pub(crate) const NOTHING_UNDECIDED: Code = Code {
    name: "E_NOTHING_UNDECIDED",
    next: "a ruling is for good: `borgios inbox` and `borgios log` show what is undecided and what is \
           signed",
};

/// A node understood an object and does not take it.
pub(crate) const NODE_REFUSED: Code = Code {
    name: "E_NODE_REFUSED",
    next: "the text names the node's reason; `--node HOST:PORT` asks another node",
};

/// A proof that does not hold.
pub(crate) const PROOF: Code = Code {
    name: "E_PROOF",
    next: "do not rely on the file; ask whoever gave it to you, or export it yourself with \
           `borgios export --proof ID FILE`",
};

/// All of them, in the order of the documents.
#[cfg(test)]
const ALL: [Code; 11] = [
    SLOT_USED,
    LOG_BEHIND,
    CLONE,
    POOL_MISSING,
    UNREVIEWED,
    RIVAL,
    ROUND_CLOSED,
    UNDECIDABLE,
    NOTHING_UNDECIDED,
    NODE_REFUSED,
    PROOF,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_one_name_with_a_next_step() {
        let names: BTreeSet<&str> = ALL.iter().map(|code| code.name).collect();
        assert_eq!(names.len(), ALL.len());
        for Code { name, next } in ALL {
            assert!(name.starts_with("E_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{name}");
            assert!(next.len() > 20, "{name} has no next step");
        }
    }

    #[test]
    fn the_protocol_names_them_all() {
        let document = include_str!("../../docs/protocol/governance.md");
        for Code { name, .. } in ALL {
            assert!(document.contains(&format!("`{name}`")), "{name}");
        }
    }
}
