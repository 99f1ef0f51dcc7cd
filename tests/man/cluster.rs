//! kmagent-cluster(8): its settings against the table.

use super::{CLUSTER, section};
use kmagent::settings::cluster::CLUSTER_SETTINGS;
use kmagent::settings::table::Fallback;

#[test]
fn every_setting_has_its_variable_flag_and_default() {
    let page = section(CLUSTER, "SETTINGS");
    let items: Vec<&str> = page.split("\n.It Cm ").skip(1).collect();
    assert_eq!(items.len(), CLUSTER_SETTINGS.len());
    for (item, setting) in items.into_iter().zip(CLUSTER_SETTINGS) {
        let default = match setting.fallback {
            Fallback::Value(text) | Fallback::Absent(text) => text,
            Fallback::Computed => unreachable!("none is computed"),
        };
        assert!(item.starts_with(&format!("{} : Ar ", setting.name)), "{} is not next: {item}", setting.name);
        for fact in [
            format!("\n.It Default\n{default}\n"),
            format!("\n.Ev {}\n", setting.env),
            format!("\n.Fl Fl {}\n", setting.name),
        ] {
            assert!(item.contains(&fact), "{}: no {fact:?} in {item}", setting.name);
        }
    }
}
