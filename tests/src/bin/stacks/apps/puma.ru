# Orders with Sinatra behind Puma, pg in a pool, and messages by bunny.
require "bunny"
require "json"
require "pg"
require "sinatra/base"

class Shop < Sinatra::Base
  set :environment, :production
  set :host_authorization, { permitted_hosts: [] }
  INSERT = "INSERT INTO orders (id, customer, nonce) VALUES ($1, $2, $3)"
  LOOK = "SELECT status FROM orders WHERE id = $1 AND (nonce = $2 OR customer IS NOT NULL)"
  CONNECTIONS = Queue.new
  6.times { CONNECTIONS << PG.connect(ENV.fetch("DATABASE_URL")) }
  BROKER = Bunny.new(ENV.fetch("AMQP_URL").sub("%2F", "%2f")).start

  def database
    connection = CONNECTIONS.pop
    yield connection
  ensure
    CONNECTIONS << connection
  end

  def nonce
    request.env.fetch("HTTP_X_NONCE")
  end

  post "/orders" do
    order = JSON.parse(request.body.read)
    database { |connection| connection.exec_params(INSERT, [order["order_id"], order["customer"], nonce + "-a"]) }
    # A channel belongs to a thread.
    channel = Thread.current[:channel] ||= BROKER.create_channel
    message = { order_id: order["order_id"], nonce: nonce + "-p" }
    channel.default_exchange.publish(message.to_json, routing_key: "made", content_type: "application/json")
    content_type :json
    { order_id: order["order_id"] }.to_json
  end

  get "/orders/:order" do
    rows = database { |connection| connection.exec_params(LOOK, [params["order"], nonce + "-a"]).to_a }
    content_type :json
    { order_id: params["order"].to_i, status: rows[0]["status"] }.to_json
  end

  post "/orders/:order/confirm" do
    database do |connection|
      connection.transaction do
        connection.exec_params(LOOK + " FOR UPDATE", [params["order"], nonce + "-a"])
        update = "UPDATE orders SET status = 'confirmed', nonce = $1 WHERE id = $2"
        connection.exec_params(update, [nonce + "-b", params["order"]])
      end
    end
    content_type :json
    { order_id: params["order"].to_i }.to_json
  end
end

run Shop
