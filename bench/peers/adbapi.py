"""Twisted's adbapi, the original, in a process of its own: python3 adbapi.py <file>.

It answers the requests of ../child.mjs in the same form: one a line on stdin, one answer a line on stdout.
"""
import hashlib
import json
import platform
import sqlite3
import sys
import time

import twisted
from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet import defer, reactor, stdio, task
from twisted.protocols.basic import LineReceiver

STEPS = "with recursive n(i) as (select 1 union all select i + 1 from n where i < %d) select sum(i) from n"
SELECT = "select login, name, forname from users where login = ?"
INSERT = "insert into users (login, name, forname) values (?, ?, ?)"


def prepare(connection):
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")


pool = ConnectionPool("sqlite3", sys.argv[1], check_same_thread=False, timeout=30, cp_openfun=prepare)
created = 0


def logins_of(count, users):
    return ["user%08d" % (i * 7919 % users) for i in range(count)]


def digest_of(rows):
    digest = hashlib.sha256()
    for row in rows:
        digest.update(("%s\0%s\0%s\n" % row).encode())
    return digest.hexdigest()


def in_turn(run, items, concurrency):
    """Runs the function on each item, so many at once, and answers in the items' order."""
    answers = [None] * len(items)
    pending = iter(enumerate(items))

    def keep(answer, place):
        answers[place] = answer

    def worker():
        for place, item in pending:
            yield run(item).addCallback(keep, place)

    cooperator = task.Cooperator()
    workers = [cooperator.coiterate(worker()) for _ in range(concurrency)]
    return defer.gatherResults(workers, consumeErrors=True).addCallback(lambda _: answers)


def look_up(logins, concurrency):
    find = in_turn(lambda login: pool.runQuery(SELECT, (login,)), logins, concurrency)
    return find.addCallback(lambda answers: [row for (row,) in answers])


def pause(milliseconds):
    return task.deferLater(reactor, milliseconds / 1000, lambda: None)


@defer.inlineCallbacks
def delays_of(run):
    """By how much a timer of one millisecond came too late, each time, while `run` ran (ms)."""
    late = []
    last = [time.perf_counter()]

    def tick():
        now = time.perf_counter()
        late.append(max(0, (now - last[0]) * 1000 - 1))
        last[0] = now

    loop = task.LoopingCall(lambda: pause(1).addCallback(lambda _: tick()))
    loop.start(0)
    yield run()
    yield pause(5)
    loop.stop()
    late.sort()
    return {"high": late[min(len(late) - 1, int(len(late) * 0.999))], "max": late[-1]}


@defer.inlineCallbacks
def keep_looking_up(users, is_done):
    logins = logins_of(64, users)
    while not is_done():
        yield look_up(logins, 64)
        yield pause(10)


@defer.inlineCallbacks
def do_look_up(concurrency, count, milliseconds, users):
    logins = logins_of(count, users)
    digests, took, answered = set(), 0, 0
    while took < milliseconds or answered == 0:
        start = time.perf_counter()
        rows = yield look_up(logins, concurrency)
        took += (time.perf_counter() - start) * 1000
        answered += count
        digests.add(digest_of(rows))
    return {"took": took, "answered": answered, "digests": list(digests)}


@defer.inlineCallbacks
def do_create(concurrency, count):
    global created
    avatars = [("new%d" % (created + i), "Garcia Marquez %d" % i, "Estebán %d" % i) for i in range(count)]
    created += count
    ((before,),) = yield pool.runQuery("select count(*) from users")
    start = time.perf_counter()
    yield in_turn(lambda avatar: pool.runOperation(INSERT, avatar), avatars, concurrency)
    took = (time.perf_counter() - start) * 1000
    ((after,),) = yield pool.runQuery("select count(*) from users")
    return {"took": took, "answered": after - before}


@defer.inlineCallbacks
def do_query(steps):
    start = time.perf_counter()
    yield pool.runQuery(STEPS % steps)
    return {"took": (time.perf_counter() - start) * 1000}


@defer.inlineCallbacks
def do_delays(steps, users):
    def block():
        reactor.callLater(0.02, time.sleep, 0.1)
        return pause(140)

    def lookups():
        end = time.perf_counter() + 1
        return keep_looking_up(users, lambda: time.perf_counter() > end)

    def beside_query():
        long = pool.runQuery(STEPS % steps)
        return defer.gatherResults([long, keep_looking_up(users, lambda: long.called)])

    meter = (yield delays_of(block))["max"]
    if not 90 < meter < 200:
        raise RuntimeError("The meter saw %d ms where the event loop was blocked for 100 ms." % meter)
    without = yield delays_of(lookups)
    beside = yield delays_of(beside_query)
    return {"meter": meter, "without": without, "beside": beside}


tasks = {"lookUp": do_look_up, "create": do_create, "query": do_query, "delays": do_delays}


class Requests(LineReceiver):
    delimiter = b"\n"

    def say(self, answer):
        self.sendLine(json.dumps(answer).encode())

    def connectionMade(self):
        versions = {
            "python": platform.python_version(),
            "twisted": twisted.__version__,
            "SQLite of adbapi": sqlite3.sqlite_version,
        }
        self.say({"versions": versions})

    def lineReceived(self, line):
        request = json.loads(line)
        run = defer.maybeDeferred(tasks[request.pop("task")], **request)
        run.addErrback(lambda failure: {"error": failure.getTraceback()})
        run.addCallback(self.say)

    def connectionLost(self, reason):
        pool.close()
        if reactor.running:
            reactor.stop()


stdio.StandardIO(Requests())
reactor.run()
