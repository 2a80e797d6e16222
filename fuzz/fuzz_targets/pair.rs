//! Two cores on a slow wire, driven by any script of legal and illegal actions, do what the model in `tests/model` does.

#![no_main]

#[path = "../../tests/model/conversation.rs"]
#[allow(dead_code)]
mod conversation;

use conversation::{Action, World};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|actions: Vec<Action>| {
    let mut world = World::new();
    for action in &actions {
        world.act(action);
    }
    world.settle();
});
