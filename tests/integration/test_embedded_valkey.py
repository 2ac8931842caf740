import psutil
import pytest
import redis
from helpers_processes import eventually, kill

from service.embedded_valkey import ValkeyServer
from service.folders import sockets
from service.supervisor import Supervisor

pytestmark = pytest.mark.slow


def running(folder):
    return Supervisor(folder, [ValkeyServer(folder).child()])


def client(folder):
    return redis.from_url(ValkeyServer(folder).url)


def test_keeps_its_data_over_a_restart(tmp_path):
    with running(tmp_path), client(tmp_path) as broker:
        broker.rpush("queue", "a message")
    assert not ValkeyServer(tmp_path).ready()
    with running(tmp_path), client(tmp_path) as broker:
        assert broker.lrange("queue", 0, -1) == [b"a message"]


def test_keeps_what_it_acknowledged_before_a_kill(tmp_path):
    with running(tmp_path) as supervisor:
        with client(tmp_path) as broker:
            broker.rpush("queue", *range(1_000))
        kill(supervisor.states()[0].pid)
        eventually(lambda: supervisor.poll() and supervisor.states()[0].restarts == 1)
        with client(tmp_path) as broker:
            assert broker.llen("queue") == 1_000


def test_refuses_a_message_rather_than_forget_one(tmp_path):
    with running(tmp_path), client(tmp_path) as broker:
        broker.rpush("queue", "kept")
        broker.config_set("maxmemory", 1)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            broker.rpush("queue", "one too many")
        assert broker.llen("queue") == 1


def test_listens_on_its_socket_only(tmp_path):
    with running(tmp_path) as supervisor:
        assert not psutil.Process(supervisor.states()[0].pid).net_connections("inet")


@pytest.mark.parametrize("name", ["x" * 90, "sp ace 'and' \"quotes\" %C3 ü"], ids=["long", "odd"])
def test_is_reached_whatever_the_folder_is_called(tmp_path, name):
    folder = tmp_path / name
    with running(folder), client(folder) as broker:
        assert broker.ping()
    assert sockets(folder).exists() is (sockets(folder).parent == folder)
