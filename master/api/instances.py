"""Instances: add, list, modify, reinstall, rename, export, remove. What runs a script ends as a job."""

import secrets
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace

from master.core import instances, job_queue, os_catalog
from master.core.cluster import ClusterConfig, Node, natural_key
from master.core.instance import Instance
from master.core.instances import Install
from master.core.os_jobs import Asked, is_for, os_job, transfers_of
from master.daemon import MasterDaemon
from master.outcome import Outcome
from protocol import identity, sealing
from protocol import operator_messages as op
from protocol.bus import Handler
from protocol.change_messages import Preview
from protocol.errors import Refused
from protocol.instance_messages import (
    InstanceAdd,
    InstanceExport,
    InstanceInfos,
    InstanceModify,
    InstanceQuery,
    InstanceReinstall,
    InstanceRemove,
    InstanceRename,
    JobWishes,
)
from protocol.os_messages import Confidential, OsAction, OsDefinition, OsTransfer
from protocol.os_names import split_os

MACS_TRIED = 100


class InstanceVerbs:
    """`instance …`."""

    def __init__(self, daemon: MasterDaemon) -> None:
        self._daemon = daemon
        self._desired = daemon.desired

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {
            "instance.add": (InstanceAdd, self.add),
            "instance.list": (InstanceQuery, self.list_all),
            "instance.modify": (InstanceModify, self.modify),
            "instance.reinstall": (InstanceReinstall, self.reinstall),
            "instance.rename": (InstanceRename, self.rename),
            "instance.export": (InstanceExport, self.export),
            "instance.remove": (InstanceRemove, self.remove),
        }

    async def add(self, request: InstanceAdd) -> op.Changed:
        config = self._desired.config
        if answer := self._again(
            request.job,
            Asked(
                action="import" if request.import_from else "create",
                instance=request.name,
                os=request.os,
                parameters=request.parameters,
                disks=tuple(disk.path for disk in request.disks),
                directory=request.import_from,
            ),
            dry_run=request.dry_run,
        ):
            return answer
        node = instances.vm_capable_node(config, request.node)
        definition = self._definition(config, node, request.os)
        confidential = self._opened(request.sealed)
        if request.job:
            self._check_node(node, request.job)
        uuids = [str(uuid.uuid4()) for _ in range(1 + len(request.disks) + len(request.nics))]
        macs = [f"aa:00:00:{secrets.token_bytes(3).hex(':')}" for _ in range(MACS_TRIED)]
        made: list[tuple[Install, Sequence[OsTransfer]]] = []

        def change(before: ClusterConfig, now: float) -> ClusterConfig:
            install = instances.add(before, request, confidential, definition, uuids=uuids, macs=macs, now=now)
            transfers = transfers_of(install.instance, request.import_from) if request.import_from else ()
            made.append((install, transfers))
            return install.config

        outcome = await self._desired.change(change, request, why=f"instance add {request.name}")
        [(install, transfers)] = made
        instance, settled = install.instance, install.settled
        done = [f"Instance {instance.name} added on node {node.name}, OS {instance.os}."]
        if request.job and request.import_from:
            return await self._submit(
                outcome, done, instance, "import", request.job, confidential=settled.confidential, transfers=transfers
            )
        if request.job and instance.disks:
            return await self._submit(outcome, done, instance, "create", request.job, confidential=settled.confidential)
        return outcome.answer([*done, "No script is run." if instance.disks else "It has no disk: no script is run."])

    async def list_all(self, request: InstanceQuery) -> InstanceInfos:
        config = self._desired.config
        wanted = [config.instance(name) for name in request.names] or list(config.instances.values())
        if request.node:
            node = config.node(request.node)
            wanted = [instance for instance in wanted if instance.primary_node == node.uuid]
        ordered = wanted if request.names else sorted(wanted, key=lambda instance: natural_key(instance.name))
        return InstanceInfos(instances=tuple(instances.info(config, instance) for instance in ordered))

    async def modify(self, request: InstanceModify) -> op.Changed:
        config = self._desired.config
        instance = config.instance(request.name)
        definition = None
        if request.os is not None and not request.force_variant:
            definition = self._definition(config, config.nodes[instance.primary_node], request.os)
        outcome = await self._desired.change(
            lambda before, now: instances.modify(before, request, definition, now=now),
            request,
            why=f"instance modify {request.name}",
        )
        if outcome.after == outcome.before:
            return outcome.answer([f"Instance {request.name} is like that already."])
        after = outcome.after.instance(request.name)
        lines = [f" - os -> {after.os}"] if after.os != instance.os else []
        lines += [f" - {key} -> {value}" for key, value in sorted({**request.hvparams, **request.beparams}.items())]
        return outcome.answer([f"Modified instance {after.name}", *lines])

    async def reinstall(self, request: InstanceReinstall) -> op.Changed:
        asked = Asked(
            action="create", instance=request.name, os=request.os, parameters=request.parameters, is_reinstall=True
        )
        if answer := self._again(request.job, asked, dry_run=request.dry_run):
            return answer
        config = self._desired.config
        instance = config.instance(request.name)
        self._check_idle(instance, request.job)
        if not instance.disks:
            raise Refused(f"instance {instance.name} has no disk, so there is nothing to install on")
        node = config.nodes[instance.primary_node]
        definition = self._definition(config, node, request.os or instance.os)
        confidential = self._opened(request.sealed)
        self._check_node(node, request.job)
        made: list[Install] = []

        def change(before: ClusterConfig, now: float) -> ClusterConfig:
            install = instances.begin_reinstall(before, request, confidential, definition, now=now)
            made.append(install)
            return install.config

        with self._daemon.installs.coming(request.job.id):
            outcome = await self._desired.change(change, request, why=f"instance reinstall {request.name}")
            install = made[0]
            done = [f"Instance {instance.name} is to be reinstalled with OS {install.os}."]
            if install.settled.dropped:
                dropped = ", ".join(install.settled.dropped)
                done.append(f"Not kept, because OS {definition.name} does not declare it: {dropped}.")
            return await self._submit(
                outcome,
                done,
                install.instance,
                "create",
                request.job,
                os=install.os,
                parameters=install.settled.public,
                confidential=install.settled.confidential,
                is_reinstall=True,
            )

    async def rename(self, request: InstanceRename) -> op.Changed:
        asked = Asked(action="rename", instance=request.new_name, old_name=request.name)
        if answer := self._again(request.job, asked, dry_run=request.dry_run):
            return answer
        instance = self._desired.config.instance(request.name)
        if request.job:
            self._check_idle(instance, request.job)
            self._check_node(self._desired.config.nodes[instance.primary_node], request.job)
        outcome = await self._desired.change(
            lambda before, now: instances.rename(before, request, now=now),
            request,
            why=f"instance rename {request.name} {request.new_name}",
        )
        done = [f"Instance {request.name} is now called {request.new_name}."]
        after = outcome.after.instance(request.new_name)
        if request.job and after.disks:
            return await self._submit(outcome, done, after, "rename", request.job, old_name=instance.name)
        return outcome.answer(done)

    async def export(self, request: InstanceExport) -> op.Changed:
        asked = Asked(action="export", instance=request.name, directory=request.directory)
        if answer := self._again(request.job, asked, dry_run=request.dry_run):
            return answer
        config = self._desired.config
        instance = config.instance(request.name)
        self._check_idle(instance, request.job)
        self._check_node(config.nodes[instance.primary_node], request.job)
        transfers = transfers_of(instance, request.directory)
        outcome = await self._desired.change(lambda before, _: before, request, why=f"instance export {request.name}")
        done = [f"Instance {instance.name} is to be exported to {transfer.path}." for transfer in transfers]
        return await self._submit(outcome, done, instance, "export", request.job, transfers=transfers)

    async def remove(self, request: InstanceRemove) -> op.Changed:
        self._check_idle(self._desired.config.instance(request.name), None)
        outcome = await self._desired.change(
            lambda before, now: instances.remove(before, request.name, now=now),
            request,
            why=f"instance remove {request.name}",
        )
        return outcome.answer([f"Instance {request.name} removed. Its disks stay as they are."])

    def _again(self, wishes: JobWishes | None, asked: Asked, *, dry_run: bool) -> op.Changed | None:
        """Return the answer to a request that has its job already, None if it is a new one.

        Refused if the id is another job's, or if no job can be taken: before anything is changed.
        """
        if wishes is None:
            return None
        jobs = self._daemon.jobs
        record = jobs.records.get(wishes.id)
        if record is None:
            job_queue.check_room(jobs.records)
            return None
        if not is_for(record.job, asked):
            raise job_queue.is_another(record.job)
        return op.Changed(
            goal=op.Goal(epoch=self._desired.config.cluster.epoch),
            done=(f"Job {wishes.id} was asked for before: it is followed, and not run again.",),
            job=wishes.id,
            preview=Preview() if dry_run else None,
        )

    async def _submit(
        self,
        outcome: Outcome,
        done: Sequence[str],
        instance: Instance,
        action: OsAction,
        wishes: JobWishes,
        *,
        confidential: Confidential | None = None,
        os: str = "",
        parameters: dict[str, str] | None = None,
        is_reinstall: bool = False,
        old_name: str = "",
        transfers: Sequence[OsTransfer] = (),
    ) -> op.Changed:
        """Hand a job over and answer; of a dry run only say so. What is confidential leaves sealed for the node."""
        node = outcome.after.nodes[instance.primary_node]
        if outcome.preview is not None:
            return outcome.answer([*done, f"Job {wishes.id} would run script {action} on node {node.name}."])
        carried = confidential or Confidential(private=instance.osparams_private)
        job = os_job(
            outcome.after,
            instance,
            action,
            wishes,
            now=time.time(),
            os=os,
            parameters=parameters,
            confidential=carried,
            sealed=sealing.seal(carried, node.public_key) if carried.private or carried.secret else b"",
            is_reinstall=is_reinstall,
            old_name=old_name,
            transfers=transfers,
        )
        await self._daemon.jobs.submit(job, waits_for_node=wishes.waits_for_node)
        return replace(
            outcome.answer([*done, f"Job {wishes.id} runs script {action} on node {node.name}."]), job=job.id
        )

    def _definition(self, config: ClusterConfig, node: Node, os: str) -> OsDefinition:
        try:
            name, _ = split_os(os)
        except ValueError as error:
            raise Refused(str(error)) from error
        return os_catalog.definition_on(node.name, name, self._daemon.os_reports.of(config))

    def _opened(self, sealed: bytes) -> Confidential:
        return sealing.unseal(sealed, identity.read_seed(self._daemon.settings.seed_file))

    def _check_node(self, node: Node, wishes: JobWishes) -> None:
        """What `jobs.submit` would refuse is refused before anything is written."""
        if not node.public_key:
            raise Refused(f"node {node.name} has no public key, so its agent has never been here")
        is_there = not node.offline and self._daemon.fleet.is_online(node.name, time.monotonic())
        if not is_there and not wishes.waits_for_node:
            raise Refused(f"node {node.name} is not online; without --no-wait the job would wait for it")

    def _check_idle(self, instance: Instance, wishes: JobWishes | None) -> None:
        """Its scripts are told what it has now, so whatever may change that comes to its end first."""
        noted = [instance.reinstall.job] if instance.reinstall else []
        for job in (*self._active(instance), *noted):
            if wishes is None or job != wishes.id:
                raise Refused(
                    f"instance {instance.name} is in use by job {job}; wait for it, or: gnt-mesh job cancel {job}"
                )

    def _active(self, instance: Instance) -> Iterator[str]:
        for record in self._daemon.jobs.records.values():
            if record.is_active and record.is_about(instance.name):
                yield record.job.id
