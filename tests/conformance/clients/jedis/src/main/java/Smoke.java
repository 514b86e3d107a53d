import java.util.Arrays;
import java.util.List;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.Pipeline;
import redis.clients.jedis.RedisProtocol;
import redis.clients.jedis.Transaction;
import redis.clients.jedis.exceptions.JedisDataException;
import redis.clients.jedis.params.SetParams;

/** jedis against HOST PORT PROTOCOL: connect, set/get, pipeline, transaction, expire. */
public final class Smoke {
    private static void check(boolean ok, String what) {
        if (!ok) {
            throw new AssertionError(what);
        }
    }

    private static void basics(Jedis c) {
        check("PONG".equals(c.ping()), "PING");
        check("OK".equals(c.set("je:k", "v")), "SET");
        check("v".equals(c.get("je:k")), "GET");
        check(c.get("je:none") == null, "GET of a missing key");
        check(c.mget("je:k", "je:none").equals(Arrays.asList("v", null)), "MGET");
    }

    private static void pipelines(Jedis c) {
        c.del("je:n");
        Pipeline pipe = c.pipelined();
        for (int i = 0; i < 100; i++) {
            pipe.incr("je:n");
        }
        List<Object> replies = pipe.syncAndReturnAll();
        for (int i = 0; i < 100; i++) {
            check(replies.get(i).equals((long) i + 1), "pipeline reply " + i);
        }
    }

    private static void transactions(Jedis c, Jedis other) {
        c.watch("je:n");
        Transaction done = c.multi();
        done.incr("je:n");
        done.get("je:n");
        check(done.exec().equals(Arrays.asList(101L, "101")), "EXEC");
        c.watch("je:n");
        other.incr("je:n");
        Transaction failed = c.multi();
        failed.set("je:n", "lost");
        check(failed.exec() == null, "EXEC succeeded although a watched key had changed");
        check("102".equals(c.get("je:n")), "the counter after the transactions");
    }

    private static void expiry(Jedis c) {
        check(c.expire("je:k", 100) == 1, "EXPIRE");
        check(c.ttl("je:k") > 0 && c.ttl("je:k") <= 100, "TTL");
        c.set("je:short", "x", SetParams.setParams().px(1));
        while (c.get("je:short") != null) {
            continue;
        }
        try {
            c.incr("je:k");
            throw new AssertionError("INCR of text succeeded");
        } catch (JedisDataException error) {
            check(error.getMessage().contains("not an integer"), error.getMessage());
        }
        check(c.del("je:k", "je:n") == 2, "DEL");
    }

    public static void main(String[] args) {
        HostAndPort address = new HostAndPort(args[0], Integer.parseInt(args[1]));
        RedisProtocol protocol = args[2].equals("3") ? RedisProtocol.RESP3 : RedisProtocol.RESP2;
        DefaultJedisClientConfig config = DefaultJedisClientConfig.builder().protocol(protocol).build();
        try (Jedis c = new Jedis(address, config); Jedis other = new Jedis(address, config)) {
            basics(c);
            pipelines(c);
            transactions(c, other);
            expiry(c);
        }
    }
}
