import Base
import ControlAPI
import EventStore
import Explain
import MeshCompiler
import MeshModel
import Projections
import ProxyConfig
import Reactor
import XDSWire

/// Answers about the mesh, from what is in memory: the log is not touched.
struct MeshQueries {
    let controller: Controller

    init(_ controller: Controller) {
        self.controller = controller
    }

    static let version = "0.1.0"

    func status() -> MeshStatus {
        MeshStatus(
            version: Self.version, revision: controller.journal.models.desired.revision, started: controller.started.text,
            resources: controller.journal.models.desired.objects.count, nodes: nodes(), faults: faults(),
            rollout: rollouts().first { $0.state == "running" } ?? rollouts().first,
            compiledRevision: controller.publisher.compiledRevision, breakers: Breakers(controller).unusual)
    }

    private func faults() -> [DiagnosticMessage] {
        var faults = controller.journal.models.desired.unreadable.values.flatMap(\.self).map { DiagnosticMessage($0) }
        for (_, errors) in controller.publisher.faults {
            faults += errors.map { error in
                DiagnosticMessage(
                    severity: "error", file: error.location?.file, line: error.location?.line, column: error.location?.column,
                    resource: "\(error.resource)", path: error.path.steps.isEmpty ? nil : "\(error.path)", message: "\(error)")
            }
        }
        return Set(faults).sorted { $0.message < $1.message }
    }

    func history(limit: Int) -> [HistoryItem] {
        controller.journal.models.history.revisions.suffix(limit).reversed().map { HistoryItem($0) }
    }

    // MARK: Nodes

    func nodes() -> [NodeItem] {
        var items: [InstanceKey: NodeItem] = [:]
        for known in controller.journal.models.nodes.instances.values {
            var item = NodeItem(
                subject: ResourceName(known.key.node), mesh: "", instance: known.key.instance, agent: "outrigger", isConnected: false,
                state: known.state == .left ? "left" : "lost")
            item.address = known.address
            item.applied = known.applied
            item.appliedAt = known.appliedAt?.text
            item.lastSeen = known.lastSeen.text
            item.rejection = known.refused.map { "\($0.version): \($0.reason)" }
            items[known.key] = item
        }
        for instance in controller.fleet.sorted where instance.isConnected {
            let client = instance.client
            let agent = client.program == .outrigger ? "outrigger" : client.userAgentName
            var item = NodeItem(
                subject: ResourceName(instance.key.node), mesh: client.mesh, instance: instance.key.instance,
                agent: client.userAgentVersion.isEmpty ? agent : "\(agent) \(client.userAgentVersion)", isConnected: true,
                state: instance.report.map { "\($0.state)" } ?? "connected")
            item.address = "\(instance.address)"
            item.wanted = instance.wanted
            item.acknowledged = instance.acknowledged
            item.applied = instance.report?.applied?.version
            item.appliedAt = instance.report?.applied.map { UnixTime(milliseconds: $0.at).text }
            item.configAge = instance.report.map { Double($0.configurationAge) / 1000 }
            item.rejection = instance.rejection
            item.connectedSince = instance.connectedSince?.text
            item.lastSeen = instance.lastSeen.text
            item.certificateExpires = instance.report?.certificates.map(\.notAfter).min().map { UnixTime(milliseconds: $0).text }
            item.identity = controller.identity(of: instance.key)?.identity
            if instance.key.node.resource?.kind == .virtualNode {
                item.takesTLS = controller.journal.models.nodes.instances[instance.key]?.takesTLS
            }
            items[instance.key] = item
        }
        return items.sorted { $0.key < $1.key }.map(\.value)
    }

    // MARK: Traffic

    func outliers() -> [OutlierItem] {
        struct Place: Hashable {
            var service: String
            var endpoint: String
        }
        var callers: [Place: Int] = [:]
        var found: [Place: OutlierItem] = [:]
        for instance in controller.fleet.sorted {
            guard let report = instance.report else { continue }
            for cluster in report.clusters {
                guard let service = controller.service(ofCluster: cluster.name) else { continue }
                for endpoint in cluster.endpoints {
                    let place = Place(service: service, endpoint: endpoint.address)
                    callers[place, default: 0] += 1
                    guard let ejection = endpoint.ejection else { continue }
                    let (since, until) = (UnixTime(milliseconds: ejection.since).text, UnixTime(milliseconds: ejection.until).text)
                    var item =
                        found[place]
                        ?? OutlierItem(
                            service: service, endpoint: endpoint.address, reason: ejection.reason, since: since, until: until,
                            ejectedBy: [],
                            callers: 0)
                    item.since = min(item.since, since)
                    item.until = max(item.until ?? until, until)
                    item.ejectedBy.append("\(instance.key.node.namespace ?? "")/\(instance.key.node.name) \(instance.key.instance)")
                    found[place] = item
                }
            }
        }
        return found.map { place, item in
            var item = item
            item.callers = callers[place] ?? 0
            return item
        }.sorted { ($0.service, $0.endpoint) < ($1.service, $1.endpoint) }
    }

    func services(seconds: Int) -> [ServiceItem] {
        let recent = controller.traffic.recent(seconds, now: controller.loop.now)
        struct Seen {
            var active = 0
            var endpoints: Set<String> = []
            var open = 0
            var ejected: Set<String> = []
            var callers = 0
        }
        var seen: [String: Seen] = [:]
        for instance in controller.fleet.sorted {
            guard let report = instance.report else { continue }
            for cluster in report.clusters {
                guard let service = controller.service(ofCluster: cluster.name) else { continue }
                seen[service, default: Seen()].active += Int(clamping: cluster.activeRequests)
                seen[service]!.endpoints.formUnion(cluster.endpoints.map(\.address))
                seen[service]!.ejected.formUnion(cluster.endpoints.filter { $0.ejection != nil }.map(\.address))
                seen[service]!.callers += 1
                if cluster.breaker?.isRefusing == true { seen[service]!.open += 1 }
            }
        }
        return seen.sorted { $0.key < $1.key }.map { name, state in
            let traffic = recent.services[name] ?? TrafficWindow.Traffic()
            let hasTraffic = traffic.requests > 0
            func milliseconds(_ quantile: Double) -> Double? { hasTraffic ? traffic.latency.quantile(quantile) / 1e6 : nil }
            return ServiceItem(
                service: name, requestsPerSecond: Double(traffic.requests) / max(1, recent.seconds),
                errorPercent: hasTraffic ? Double(traffic.errors) * 100 / Double(traffic.requests) : 0, p50Milliseconds: milliseconds(0.5),
                p99Milliseconds: milliseconds(0.99), active: state.active, endpoints: state.endpoints.count, ejected: state.ejected.count,
                callers: state.callers, breakersOpen: state.open > 0 ? state.open : nil)
        }
    }

    // MARK: Rollouts

    func rollouts() -> [RolloutItem] {
        let running = controller.rollouts.progress
        return controller.journal.models.rollouts.rollouts.reversed().map { rollout in
            let begun = rollout.stages.lastIndex { $0.started != nil } ?? 0
            let reached = rollout.stages.flatMap(\.instances).count
            let isRunning = rollout.state == .running
            return RolloutItem(
                id: "\(rollout.start.revision)", revision: rollout.start.revision, from: rollout.start.previous,
                state: rollout.state.rawValue, stages: rollout.start.stages, stage: isRunning ? running?.stage ?? begun : begun,
                reached: isRunning ? running?.reached ?? reached : reached, of: isRunning ? running?.of ?? reached : reached,
                started: rollout.started.text, ended: rollout.ended?.text, reason: rollout.reason.isEmpty ? nil : rollout.reason)
        }
    }

    // MARK: Compiled

    struct Compiled: Sendable {
        var node: CompiledNode
        var version: String
        /// Whose it is; nil: no proxy's.
        var instance: String?
    }

    /// Compiles a node as one of its proxies has it, with that proxy's own addresses.
    ///
    /// - Parameter instance: nil: the first that is connected; as one without an address of its own if there is none.
    func compile(_ name: String, instance: String?, then: @escaping (Result<Compiled, Problem>) -> Void) {
        let subject: MeshCompiler.Subject
        do throws(ExplainError) {
            subject = try Explainer.subject(named: name, in: controller.mesh)
        } catch {
            return then(.failure(.notFound("\(error)")))
        }
        let connected = controller.fleet.instances.keys.filter { key in
            key.node == subject.objectKey && controller.ads.target(of: key) != nil
        }.sorted()
        let key = connected.first { instance == nil || $0.instance == instance }
        if let instance, key == nil {
            let known = connected.map(\.instance).joined(separator: ", ")
            let others = known.isEmpty ? "none is" : "these are: \(known)"
            return then(.failure(.notFound("No proxy \"\(instance)\" of \(subject.key.qualified) is connected; \(others).")))
        }
        let target =
            key.flatMap { controller.ads.target(of: $0) } ?? Publisher.Target(subject: subject, hostAddress: nil, edition: .current)
        controller.publisher.compile(target) { result in
            switch result {
            case .success(let node):
                then(.success(Compiled(node: node, version: SnapshotFile.version(of: node.snapshot), instance: key?.instance)))
            case .failure(let failure):
                let messages = failure.errors.map { DiagnosticMessage(severity: "error", resource: "\($0.resource)", message: "\($0)") }
                let title = "There is no configuration for \(subject.key)"
                then(.failure(Problem("not-compiled", status: 422, title: title, diagnostics: messages)))
            }
        }
    }

    static func explain(_ request: ExplainRequest, _ node: CompiledNode) -> Result<Explanation, Problem> {
        do throws(ExplainError) {
            return .success(try Explainer.explain(request, in: node))
        } catch {
            return .failure(Problem("bad-request", status: 400, title: "The request is not one", detail: "\(error)"))
        }
    }
}

extension BreakerReport {
    /// Calls that are no probes are not let through.
    fileprivate var isRefusing: Bool { ["open", "half-open", "forced-open"].contains(state) }
}
