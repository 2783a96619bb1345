# Puma: a reactor thread reads requests, a pool of threads works on them; Net::HTTP and pg with pools.
require 'net/http'
require 'pg'

POOL = Integer(ENV.fetch('POOL'))
PLANS = ENV.fetch('PLANS')
LOG = File.open(ENV.fetch('LOG'), 'a').tap { |file| file.sync = true }

def done(nonce, cause) = LOG.write("#{nonce} #{cause}\n")

def pool(size)
  Queue.new.tap { |queue| size.times { queue << nil } }
end

HTTP_POOL = pool(POOL)
SQL_POOL = pool(POOL)

def with(pool, make)
  connection = pool.pop || make.call
  yield connection
ensure
  pool << connection
end

MAKE_HTTP = -> { Net::HTTP.new('127.0.0.1', Integer(ENV.fetch('BACKEND_PORT'))).tap { |http| http.keep_alive_timeout = 60 }.start }
MAKE_SQL = -> { PG.connect(ENV.fetch('DATABASE_URL')) }

def call(method, target, body)
  with(HTTP_POOL, MAKE_HTTP) do |http|
    request = Net::HTTPGenericRequest.new(method, !body.nil?, true, target)
    if body
      request['content-type'] = 'application/json'
      request.body = body
    end
    http.request(request)
  end
end

def query(connection, values, text) = connection.exec_params(text, values.split(','))

def single(line, cause)
  word, nonce, first, rest = line.split(' ', 4)
  if word == 'http'
    target, body = rest.split(' ', 2)
    call(first, target, body)
  else
    with(SQL_POOL, MAKE_SQL) { |connection| query(connection, first, rest) }
  end
  done(nonce, cause)
end

def carry_out(cause)
  lines = File.readlines("#{PLANS}/#{cause}", chomp: true)
  answer = nil
  transaction = nil
  until lines.empty?
    line = lines.shift
    word, rest = line.split(' ', 2)
    case word
    when 'think' then sleep(rest.to_i / 1000.0)
    when 'answer' then answer = rest
    when 'begin'
      transaction = SQL_POOL.pop || MAKE_SQL.call
      transaction.exec('BEGIN')
    when 'commit'
      transaction.exec('COMMIT')
      SQL_POOL << transaction
      transaction = nil
    when 'together'
      rest.to_i.times.map { lines.shift }.map { |branch| Thread.new { single(branch, cause) } }.each(&:value)
    else
      if transaction
        _, nonce, values, text = line.split(' ', 4)
        query(transaction, values, text)
        done(nonce, cause)
      else
        single(line, cause)
      end
    end
  end
  answer
end

run lambda { |env|
  env['rack.input']&.read
  nonce = env['PATH_INFO'].split('/').last
  begin
    text = carry_out(nonce)
    done(nonce, '-')
    [200, { 'content-type' => 'application/json', 'content-length' => text.bytesize.to_s }, [text]]
  rescue StandardError => error
    LOG.write("! #{nonce} #{error.message.tr("\n", ' ')}\n")
    raise
  end
}
