#!/usr/bin/env python3
"""Tutorial six's server in Python, on pika: the same frames as RabbitMQ's own program.

    rpc_server.py URL [transient|quorum]

`quorum` declares the queue as today's tutorial does, `transient` as it once did.
"""
import sys

import pika

url, form = sys.argv[1], (sys.argv[2:] or ["quorum"])[0]
channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
if form == "quorum":
    channel.queue_declare(queue="rpc_queue", durable=True, arguments={"x-queue-type": "quorum"})
else:
    channel.queue_declare(queue="rpc_queue")


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def on_request(channel, method, properties, body):
    n = int(body)
    print(f" [.] fib({n})", flush=True)
    reply = pika.BasicProperties(correlation_id=properties.correlation_id)
    channel.basic_publish(exchange="", routing_key=properties.reply_to, properties=reply, body=str(fib(n)))
    channel.basic_ack(delivery_tag=method.delivery_tag)


channel.basic_qos(prefetch_count=1)
channel.basic_consume(queue="rpc_queue", on_message_callback=on_request)
print(" [x] Awaiting RPC requests", flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    channel.connection.close()
