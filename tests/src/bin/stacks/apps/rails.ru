# Orders with Rails: a controller of its API and ActiveRecord's own pool.
require "action_controller/railtie"
require "active_record"

ActiveRecord::Base.establish_connection(ENV.fetch("DATABASE_URL") + "?pool=8")

class Order < ActiveRecord::Base
  # The nonce is never read back: that of an older operation would name that one.
  def self.known(order, nonce)
    select(:id, :status).where(id: order).where("nonce = ? OR customer IS NOT NULL", nonce)
  end
end

class OrdersController < ActionController::API
  def make
    Order.create!(id: params[:order_id], customer: params[:customer], nonce: nonce + "-a")
    render json: { order_id: params[:order_id] }
  end

  def look
    order = Order.known(params[:order], nonce + "-a").take!
    render json: { order_id: order.id, status: order.status }
  end

  def confirm
    Order.transaction do
      order = Order.lock.known(params[:order], nonce + "-a").take!
      Order.where(id: order.id).update_all(status: "confirmed", nonce: nonce + "-b")
    end
    render json: { order_id: params[:order].to_i }
  end

  private

  def nonce
    request.headers["X-Nonce"]
  end
end

class Shop < Rails::Application
  config.root = Dir.pwd
  config.eager_load = true
  config.api_only = true
  config.secret_key_base = "of no use without sessions"
  config.logger = Logger.new($stderr, level: Logger::WARN)
  config.consider_all_requests_local = true
  config.hosts.clear
  routes.append do
    post "/orders", to: "orders#make"
    get "/orders/:order", to: "orders#look"
    post "/orders/:order/confirm", to: "orders#confirm"
  end
end

Shop.initialize!
run Shop
