#!/usr/bin/env python3
"""Tutorial six's client in Python, on pika: the same frames as RabbitMQ's own program, but it gives up.

    rpc_client.py URL N [SECONDS]
"""
import sys
import uuid

import pika

url, n, seconds = sys.argv[1], sys.argv[2], float((sys.argv[3:] or ["20"])[0])
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
reply_queue = channel.queue_declare(queue="", exclusive=True).method.queue
correlation_id = str(uuid.uuid4())
replies = []


def on_reply(channel, method, properties, body):
    if properties.correlation_id == correlation_id:
        replies.append((properties.type, body))


channel.basic_consume(queue=reply_queue, on_message_callback=on_reply, auto_ack=True)
print(f" [x] Requesting fib({n})", flush=True)
request = pika.BasicProperties(reply_to=reply_queue, correlation_id=correlation_id)
channel.basic_publish(exchange="", routing_key="rpc_queue", properties=request, body=n)
while not replies and seconds > 0:
    connection.process_data_events(time_limit=1)
    seconds -= 1
connection.close()
if not replies:
    sys.exit(" [.] no reply")
kind, body = replies[0]
print(f" [.] Got {body.decode()}" if kind is None else f" [.] Got {kind}: {body.decode()}")
