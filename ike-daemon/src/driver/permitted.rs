//! The table of algorithms in force (ipsecalgs(8)): what is not in it is neither proposed nor accepted. SAs that are there
//! stay until they expire.

use ipsec_algorithms::{ALGORITHMS, Algorithm, Kind, Table, table};
use sadb_maps::host::Instance;
use sadb_maps::policy::{Action, MAX_ACTIONS, Rule};
use tracing::{error, info};

/// The table, followed as it changes.
pub(super) struct Permitted {
    instance: String,
    origin: table::Origin,
    table: Table,
}

impl Permitted {
    /// That of an instance.
    pub(super) fn of(instance: &Instance) -> Self {
        let name = instance.name().to_owned();
        let permitted = Self { origin: table::origin(&name), table: Table::in_force(&name), instance: name };
        permitted.tell();
        permitted
    }

    /// Reads the table anew if there is another.
    pub(super) fn follow(&mut self) {
        let origin = table::origin(&self.instance);
        if origin != self.origin {
            // In this order: a table that comes in between is read again.
            self.origin = origin;
            self.table = Table::in_force(&self.instance);
            self.tell();
        }
    }

    fn tell(&self) {
        if let Some(fault) = self.table.fault() {
            error!(target: "ikev2d::config", "no algorithm may be negotiated: {fault}");
            return;
        }
        let missing = |a: &&Algorithm| !a.key.sizes().any(|bits| self.table.permits(a.kind, a.id, bits));
        let missing: Vec<&str> = ALGORITHMS.iter().filter(missing).map(|a| a.name()).collect();
        if !missing.is_empty() {
            info!(target: "ikev2d::config", "not in the table of algorithms, and so not negotiated: {}", missing.join(", "));
        }
    }

    /// Leaves to a rule the actions that the table permits, with the key sizes that it permits. Actions that do not fit
    /// any more because their key sizes have gaps are lost from the end, the least preferred first.
    pub(super) fn restrict(&self, rule: &mut Rule) {
        let count = usize::try_from(rule.action_count).unwrap_or(MAX_ACTIONS);
        let actions: Vec<Action> = rule.actions.iter().take(count).flat_map(|action| self.parts(action)).collect();
        rule.actions = [Action::default(); MAX_ACTIONS];
        rule.action_count = 0;
        for (place, action) in rule.actions.iter_mut().zip(actions) {
            *place = action;
            rule.action_count += 1;
        }
    }

    /// One action for each run of key sizes that are permitted, longest first.
    fn parts(&self, action: &Action) -> Vec<Action> {
        // Authenticators have keys of one length.
        let of = |kind, id| ALGORITHMS.iter().find(move |a: &&Algorithm| a.kind == kind && a.id == id);
        let authenticates = |id| {
            let known = of(Kind::Authentication, id);
            id == 0 || known.is_some_and(|a| a.key.sizes().any(|bits| self.table.permits(a.kind, id, bits)))
        };
        if !authenticates(action.ah) || !authenticates(action.esp_auth) {
            return vec![];
        }
        if action.encr == 0 {
            return vec![*action];
        }
        let Some(cipher) = of(Kind::Encryption, action.encr) else { return vec![] };
        let [low, high] = action.encr_bits;
        let mut runs: Vec<[u16; 2]> = vec![];
        let mut unbroken = false;
        for bits in cipher.key.sizes().filter(|bits| (low..=high).contains(bits)) {
            let permitted = self.table.permits(Kind::Encryption, action.encr, bits);
            match runs.last_mut() {
                Some([_, last]) if permitted && unbroken => *last = bits,
                _ if permitted => runs.push([bits, bits]),
                _ => {}
            }
            unbroken = permitted;
        }
        runs.into_iter().rev().map(|encr_bits| Action { encr_bits, ..*action }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::algorithms::suites;
    use bytemuck::Zeroable;
    use ipsec_algorithms::AlgorithmFile;
    use sadb_maps::host::testing::TestInstance;

    fn permitted(lines: &str) -> Permitted {
        let file = AlgorithmFile::parse(&format!("PROTO|2|AH|sync\nPROTO|3|ESP|sync\n{lines}")).unwrap();
        Permitted { instance: String::new(), origin: table::Origin::default(), table: Table::of(&file) }
    }

    fn left(permitted: &Permitted, actions: &[Action]) -> Vec<String> {
        let mut rule = Rule::zeroed();
        rule.actions[..actions.len()].copy_from_slice(actions);
        rule.action_count = actions.len() as u32;
        permitted.restrict(&mut rule);
        let count = rule.action_count as usize;
        assert!(rule.actions[count..].iter().all(|action| *action == Action::default()));
        rule.actions[..count].iter().flat_map(suites).map(|suite| suite.to_string()).collect()
    }

    fn esp(encr: u8, encr_bits: [u16; 2], esp_auth: u8) -> Action {
        let bits = match esp_auth {
            0 => 0,
            5 => 256,
            _ => 160,
        };
        Action { encr, encr_bits, esp_auth, esp_auth_bits: [bits, bits], ..Action::default() }
    }

    #[test]
    fn what_the_table_has_not_is_not_negotiated() {
        let all = [esp(12, [128, 256], 5), esp(20, [128, 256], 0), esp(28, [256, 256], 0)];
        let some = permitted("ALG|3|12|aes|-|128,256|16\nALG|3|28|chacha|-|256|16\nALG|2|5|sha256|-|256|16");
        assert_eq!(
            left(&some, &all),
            ["ESP AES-CBC(256) HMAC-SHA2-256-128", "ESP AES-CBC(128) HMAC-SHA2-256-128", "ESP CHACHA20-POLY1305"]
        );
        let no_auth = permitted("ALG|3|12|aes|-|128/128-256,64|16\nALG|3|28|chacha|-|256|16");
        assert_eq!(left(&no_auth, &all), ["ESP CHACHA20-POLY1305"]);
        assert_eq!(left(&permitted(""), &all), [""; 0]);
        let ah = Action { ah: 5, ah_bits: [256, 256], ..Action::default() };
        assert_eq!(left(&some, &[ah]), ["AH HMAC-SHA2-256-128"]);
        assert_eq!(left(&no_auth, &[ah]), [""; 0]);
        let built_in = Permitted { table: Table::built_in(), ..permitted("") };
        assert_eq!(left(&built_in, &all).len(), 7);
    }

    #[test]
    fn gaps_that_do_not_fit_lose_the_last_actions() {
        let gaps = permitted("ALG|3|7|blowfish|-|32-448,16|8\nALG|2|5|sha256|-|256|16");
        let many = left(&gaps, &[esp(7, [32, 448], 5), esp(7, [32, 32], 5)]);
        assert_eq!(many.first().map(String::as_str), Some("ESP BLOWFISH-CBC(448) HMAC-SHA2-256-128"));
        assert!(many.len() <= MAX_ACTIONS);
    }

    /// Another table takes effect without the daemon being told.
    #[test]
    fn another_table_is_followed() {
        let test = TestInstance::with_maps(8).unwrap();
        let mut permitted = Permitted::of(&test);
        let cbc = [esp(12, [256, 256], 5)];
        let before = left(&permitted, &cbc);
        let mut file = AlgorithmFile::built_in();
        file.remove("3", "aes-cbc").unwrap();
        let path = test.run_dir().unwrap().join(table::IN_FORCE);
        ipsec_algorithms::store::replace(&path, &file, 0o600).unwrap();
        permitted.follow();
        assert_eq!(left(&permitted, &cbc), [""; 0]);
        ipsec_algorithms::store::replace(&path, &AlgorithmFile::built_in(), 0o600).unwrap();
        permitted.follow();
        assert_eq!(left(&permitted, &cbc).len(), 1);
        std::fs::write(&path, "bogus\n").unwrap();
        permitted.follow();
        assert_eq!(left(&permitted, &cbc), [""; 0]);
        std::fs::remove_file(&path).unwrap();
        permitted.follow();
        assert_eq!(left(&permitted, &cbc), before);
    }
}
