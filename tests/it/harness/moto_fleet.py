"""What moto tells of the fleet otherwise than AWS does, put right before it serves."""

from moto.awslambda.models import LambdaFunction
from moto.ecs.models import Container, EC2ContainerServiceBackend


def extend() -> None:
    texts_in_containers()
    reservations_of_zero()
    counts_of_clusters()


def texts_in_containers() -> None:
    """ECS tells a container's cpu and memory as texts; moto as numbers, which no strict client reads."""
    make = Container.__init__

    def in_texts(self, task_def) -> None:
        make(self, task_def)
        self.cpu = str(self.cpu or 0)
        self.memory = None if self.memory is None else str(self.memory)

    Container.__init__ = in_texts


def reservations_of_zero() -> None:
    """A reservation of zero is one; moto leaves it out of what it tells, as if there were none."""
    tell = LambdaFunction.get_code

    def with_reservation(self) -> dict:
        told = tell(self)
        if self.reserved_concurrency is not None:
            told["Concurrency"] = {"ReservedConcurrentExecutions": self.reserved_concurrency}
        return told

    LambdaFunction.get_code = with_reservation


def counts_of_clusters() -> None:
    """ECS counts what is in a cluster; moto counts no services, and of tasks only those on machines."""
    describe = EC2ContainerServiceBackend.describe_clusters

    def counted(self, cluster_names):
        clusters, failures = describe(self, cluster_names)
        for cluster in clusters:
            services = [one for one in self.services.values() if one.cluster_name == cluster.name]
            cluster.active_services_count = sum(one.status == "ACTIVE" for one in services)
            states = [one.last_status for one in self.tasks.get(cluster.name, {}).values()]
            cluster.running_tasks_count = states.count("RUNNING")
            cluster.pending_tasks_count = sum(one in ("PROVISIONING", "PENDING", "ACTIVATING") for one in states)
        return clusters, failures

    EC2ContainerServiceBackend.describe_clusters = counted
