# What comes after an order is made: a consumer of bunny with four threads.
require "bunny"
require "json"
require "pg"

connections = Queue.new
4.times { connections << PG.connect(ENV.fetch("DATABASE_URL")) }
channel = Bunny.new(ENV.fetch("AMQP_URL").sub("%2F", "%2f")).start.create_channel(nil, 4)
channel.prefetch(8)
consumer = channel.queue("made")
consumer.subscribe(manual_ack: true) do |delivery, _properties, body|
  order = JSON.parse(body)
  connection = connections.pop
  connection.transaction do
    update = "UPDATE orders SET status = 'planned', nonce = $1 WHERE id = $2"
    connection.exec_params(update, [order["nonce"] + "-a", order["order_id"]])
    insert = "INSERT INTO events (order_id, what, nonce) VALUES ($1, 'planned', $2)"
    connection.exec_params(insert, [order["order_id"], order["nonce"] + "-b"])
  end
  connections << connection
  channel.ack(delivery.delivery_tag)
end
$stdout.sync = true
puts "ready"
sleep
