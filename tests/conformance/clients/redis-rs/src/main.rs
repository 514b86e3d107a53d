//! redis-rs against HOST PORT PROTOCOL: connect, set/get, pipeline, transaction, expire.
use redis::{Commands, Connection, RedisResult};

fn basics(c: &mut Connection) -> RedisResult<()> {
    assert_eq!(redis::cmd("PING").query::<String>(c)?, "PONG");
    let _: () = c.set("rs:k", "v")?;
    assert_eq!(c.get::<_, String>("rs:k")?, "v");
    assert_eq!(c.get::<_, Option<String>>("rs:none")?, None);
    assert_eq!(c.mget::<_, Vec<Option<String>>>(&["rs:k", "rs:none"])?, [Some("v".into()), None]);
    Ok(())
}

fn pipelines(c: &mut Connection) -> RedisResult<()> {
    let _: () = c.del("rs:n")?;
    let mut pipe = redis::pipe();
    for _ in 0..100 {
        pipe.incr("rs:n", 1);
    }
    assert_eq!(pipe.query::<Vec<i64>>(c)?, (1..=100).collect::<Vec<_>>());
    Ok(())
}

fn transactions(c: &mut Connection, other: &mut Connection) -> RedisResult<()> {
    let _: () = redis::cmd("WATCH").arg("rs:n").query(c)?;
    let done: Option<(i64, String)> = redis::pipe().atomic().incr("rs:n", 1).get("rs:n").query(c)?;
    assert_eq!(done, Some((101, "101".into())));
    let _: () = redis::cmd("WATCH").arg("rs:n").query(c)?;
    let _: () = other.incr("rs:n", 1)?;
    let failed: Option<(String,)> = redis::pipe().atomic().set("rs:n", "lost").query(c)?;
    assert_eq!(failed, None, "EXEC succeeded although a watched key had changed");
    assert_eq!(c.get::<_, i64>("rs:n")?, 102);
    Ok(())
}

fn expiry(c: &mut Connection) -> RedisResult<()> {
    assert!(c.expire::<_, bool>("rs:k", 100)?);
    let ttl: i64 = c.ttl("rs:k")?;
    assert!(0 < ttl && ttl <= 100);
    let _: () = c.pset_ex("rs:short", "x", 1)?;
    while c.get::<_, Option<String>>("rs:short")?.is_some() {}
    let error = c.incr::<_, _, i64>("rs:k", 1).unwrap_err();
    assert!(error.to_string().contains("not an integer"), "{error}");
    assert_eq!(c.del::<_, i64>(&["rs:k", "rs:n"])?, 2);
    Ok(())
}

fn main() -> RedisResult<()> {
    let args: Vec<String> = std::env::args().collect();
    let client = redis::Client::open(format!("redis://{}:{}/?protocol=resp{}", args[1], args[2], args[3]))?;
    let mut connection = client.get_connection()?;
    let mut other = client.get_connection()?;
    basics(&mut connection)?;
    pipelines(&mut connection)?;
    transactions(&mut connection, &mut other)?;
    expiry(&mut connection)
}
