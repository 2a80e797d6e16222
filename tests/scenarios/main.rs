//! What a broker does, as scenarios against the public client, each of which runs twice: on the broker of this crate,
//! and (ignored unless asked for) on RabbitMQ. Where both agree, the built-in broker may stand in for the real one;
//! `docs/broker.md` says where they do not.
//!
//! ```text
//! cargo test --test scenarios
//! AMQP_TEST_URL=amqp://guest:guest@localhost:5672/%2f cargo test --test scenarios -- --ignored
//! ```
//!
//! Every scenario names what it declares after a UUID and deletes it at the end, so it may run beside others. Rule ids
//! are those of `docs/rules.md`. What must *not* happen is shown by a barrier: a later answer on the same channel.
// A panic is how a test reports.
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used
)]
#![allow(clippy::wildcard_imports, missing_docs, unreachable_pub)]

mod builtin_only;
mod docs;
#[path = "../support/raw.rs"]
mod raw;
#[macro_use]
mod world;

on_both_brokers! {
    const SCENARIOS;
    declaring:
        server_named_queue
        last_declared_queue
        passive_declare_of_a_missing_name
        redeclare_with_other_properties
        redeclare_without_exclusive
        redeclare_an_exchange_as_another_type
        argument_of_the_wrong_type
        exclusive_queue_of_another_connection
        exclusive_queue_goes_with_its_connection
        purge_and_delete_count_what_is_ready
        delete_of_a_missing_name
        delete_if_unused_or_empty
        delete_of_an_exchange_in_use
        reserved_names
        predeclared_exchanges
        default_exchange_is_not_to_be_touched
        unknown_exchange_type
        auto_delete_queue
        auto_delete_exchange;
    routing:
        direct_exchange
        fanout_exchange
        topic_exchange
        headers_exchange
        exchange_to_exchange
        bind_to_what_is_missing
        alternate_exchange;
    publishing:
        fourteen_properties
        large_and_empty_bodies
        body_is_cut_to_frame_max
        publish_to_a_missing_exchange
        return_comes_before_its_ack
        mandatory_message_comes_back
        confirms_cover_every_publish
        many_publishes_in_flight
        full_queue_refuses
        full_queue_drops_its_head
        immediate_is_not_implemented
        property_that_is_refused
        expired_message_is_dropped
        copies_by_header
        contents_of_many_tasks;
    consuming:
        consume_ok_comes_first
        server_named_consumer
        fair_dispatch
        prefetch_is_per_consumer
        no_ack_consumer
        ack_of_a_no_ack_delivery
        exclusive_consumer
        consumer_tag_reused
        consume_from_a_missing_queue
        cancel
        queue_deleted_under_a_consumer
        get_counts_what_remains
        prefetch_size_is_not_implemented
        consumer_priority
        no_wait_requests
        consumers_take_turns
        dropped_consumer_gives_back
        requests_in_flight_together;
    settling:
        requeued_messages_keep_their_order
        nack_to_a_consumer
        reject_drops
        closed_channel_gives_back
        lost_connection_gives_back
        recover_with_a_consumer
        recover
        recover_without_requeue_is_not_implemented
        ack_multiple
        unknown_delivery_tag
        delivery_tag_is_good_once
        ack_after_the_queue_is_gone
        quorum_queue_counts_deliveries;
    dying:
        head_expires_by_itself
        rejected_message_is_sent_on
        expired_message_is_sent_on
        message_expires_when_it_is_returned
        full_queue_sends_on
        quorum_queue_has_a_delivery_limit
        delivery_limit_by_default
        same_death_is_counted
        cycle_is_broken
        keys_of_a_dead_letter
        dead_letters_are_routed
        order_of_dead_letters
        rejected_requests_are_sent_on
        unused_queue_expires;
    connection:
        handshake
        wrong_password
        amqplain
        unknown_virtual_host
        channel_error_leaves_other_channels_alone
        first_cause_is_what_everyone_hears
        hard_error_costs_every_channel
        methods_out_of_place
        content_that_is_interrupted
        close_is_answered
        heartbeats_keep_an_idle_connection
        silent_client_is_dropped
        wrong_protocol_header
        tune_ok_beyond_the_offer
        more_channels_than_agreed
        operations_after_close;
    direct_reply:
        reply_without_a_queue
        is_the_client_still_there
        reply_consumer_cannot_acknowledge
        one_reply_consumer_per_channel
        request_needs_a_reply_consumer
        reply_to_nobody;
    rpc:
        call_and_reply
        a_hundred_calls_at_once
        two_servers_share_a_hundred_calls
        call_to_a_missing_queue
        call_that_nobody_serves
        error_replies
        request_without_reply_to
        stopped_server_gives_back
        replies_look_as_in_the_tutorial
        requests_out_of_bounds
        expired_request_is_not_begun
        handler_is_dropped_at_the_deadline
        poison_is_given_up
        dead_letters_have_an_exchange
        deleted_queue_is_made_again
        lost_connection_is_made_again
        kept_reply_answers_the_second_attempt
        trace_travels_with_a_call
        late_reply_is_counted
        both_reply_modes
        full_queue_refuses_a_call
        queue_deleted_under_a_call
        closed_client_finishes
        closed_client_cuts_off
        dropped_call_leaves_nothing_behind
        connection_lost_under_a_call;
}
