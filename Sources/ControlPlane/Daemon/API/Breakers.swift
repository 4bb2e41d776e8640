import Base
import ControlAPI
import EventStore
import Explain
import MeshCompiler
import MeshModel
import Projections
import ProxyConfig
import XDSWire

/// Operators' hands on breakers: forced and released by events, delivered with the configuration of the node's proxies.
struct Breakers {
    private let controller: Controller

    init(_ controller: Controller) {
        self.controller = controller
    }

    /// Of one node. Each goes to all its proxies with every configuration.
    static let maxOverrides = 256

    func force(_ asked: BreakerForceRequest, _ request: APIRequest) {
        guard let action = BreakerOverride.Action(rawValue: asked.action) else {
            return refuse("action: expected open, disable or observe, found \"\(asked.action)\"", request)
        }
        let longest = Double(BreakerOverride.longestDuration.components.seconds)
        let seconds = asked.seconds ?? Double(BreakerOverride.defaultDuration.components.seconds)
        guard seconds >= 1, seconds <= longest else {
            return refuse("seconds: expected 1 through \(Int(longest)), found \(seconds)", request)
        }
        resolve(asked.node, asked.cluster, asked.endpoint, request) { targets in
            let now = controller.journal.now
            let known = controller.journal.models.overrides.current(now: now).map(\.key)
            let others = known.filter { $0.node == targets[0].node && !targets.contains($0) }
            guard others.count + targets.count <= Self.maxOverrides else {
                let detail = "\(targets[0].node) has \(others.count) breakers in hand; at most \(Self.maxOverrides) may be"
                return request.refuse(Problem("too-many", status: 409, title: "Too many breakers are forced", detail: detail))
            }
            let until = now.advanced(bySeconds: seconds)
            let events = targets.map { MeshEvent.breakerForced(BreakerForce(target: $0, action: action.rawValue, until: until)) }
            record(events, targets, until, asked.reason, request)
        }
    }

    func release(_ asked: BreakerReleaseRequest, _ request: APIRequest) {
        resolve(asked.node, asked.cluster, asked.endpoint, request) { targets in
            let known = Set(controller.journal.models.overrides.current(now: controller.journal.now).map(\.key))
            let forced = targets.filter(known.contains)
            guard !forced.isEmpty else {
                return request.refuse(.notFound("Nobody has forced the \(targets[0]) through this control plane."))
            }
            record(forced.map { .breakerReleased(BreakerRelease(target: $0)) }, forced, nil, asked.reason, request)
        }
    }

    private func record(
        _ events: [MeshEvent], _ targets: [OverrideTable.Key], _ until: UnixTime?, _ reason: String?, _ request: APIRequest
    ) {
        controller.journal.record(events, actor: request.actor, reason: String((reason ?? "").prefix(1000))) { result in
            switch result {
            case .success:
                request.answer(
                    BreakerChange(
                        node: targets[0].node.path, clusters: targets.map(\.cluster), endpoint: targets[0].endpoint, until: until?.text))
            case .failure(let error): request.refuse(.internal("\(error)"))
            }
        }
    }

    private func refuse(_ detail: String, _ request: APIRequest) {
        request.refuse(Problem("bad-body", status: 400, title: "The breaker cannot be forced so", detail: detail))
    }

    /// The clusters of a node that a name means; several where a service has several ports.
    private func resolve(
        _ node: String, _ name: String, _ endpoint: String?, _ request: APIRequest, then: @escaping ([OverrideTable.Key]) -> Void
    ) {
        if let endpoint, SocketAddress(endpoint) == nil {
            return refuse("endpoint: expected IP:PORT, found \"\(endpoint)\"", request)
        }
        let subject: MeshCompiler.Subject
        do throws(ExplainError) {
            subject = try Explainer.subject(named: node, in: controller.mesh)
        } catch {
            return request.refuse(.notFound("\(error)"))
        }
        MeshQueries(controller).compile(node, instance: nil) { result in
            switch result {
            case .failure(let problem): request.refuse(problem)
            case .success(let compiled):
                let clusters = compiled.node.snapshot.clusters.map(\.name)
                let meant = clusters.filter { cluster in
                    let service = controller.service(ofCluster: cluster)
                    return cluster == name || service == name || service?.split(separator: "/").last.map(String.init) == name
                }
                guard !meant.isEmpty else {
                    let known = Set(clusters.map { controller.service(ofCluster: $0) ?? $0 }).sorted().joined(separator: ", ")
                    return request.refuse(.notFound("\(subject.key.qualified) has no cluster or service \"\(name)\"; it has \(known)."))
                }
                let normal = endpoint.flatMap { SocketAddress($0) }.map { "\($0)" }
                then(meant.map { OverrideTable.Key(node: subject.objectKey, cluster: $0, endpoint: normal) })
            }
        }
    }

    // MARK: Looking

    /// - Parameter node: with one, closed breakers too.
    func list(node: String?) -> Result<[BreakerItem], Problem> {
        var subject: ObjectKey?
        if let node {
            do throws(ExplainError) {
                subject = try Explainer.subject(named: node, in: controller.mesh).objectKey
            } catch {
                return .failure(.notFound("\(error)"))
            }
        }
        let forced = Dictionary(
            uniqueKeysWithValues: controller.journal.models.overrides.current(now: controller.journal.now).map { ($0.key, $0.value) })
        var told: Set<OverrideTable.Key> = []
        var items: [BreakerItem] = []
        for instance in controller.fleet.sorted where subject == nil || instance.key.node == subject {
            for cluster in instance.report?.clusters ?? [] {
                func add(_ endpoint: String?, _ report: BreakerReport?) {
                    let key = OverrideTable.Key(node: instance.key.node, cluster: cluster.name, endpoint: endpoint)
                    guard report != nil || subject != nil && endpoint != nil || forced[key] != nil else { return }
                    told.insert(key)
                    var item = item(key, report?.state ?? "closed", forced[key])
                    item.instance = instance.key.instance
                    item.reason = report.flatMap { $0.reason.isEmpty ? nil : $0.reason }
                    item.since = report.flatMap { $0.since > 0 ? UnixTime(milliseconds: $0.since).text : nil }
                    item.until = report.flatMap { $0.until > 0 ? UnixTime(milliseconds: $0.until).text : nil }
                    item.closes = report.flatMap { $0.closes.isEmpty ? nil : $0.closes }
                    items.append(item)
                }
                add(nil, cluster.breaker)
                for endpoint in cluster.endpoints { add(endpoint.address, endpoint.breaker) }
            }
        }
        for (key, entry) in forced.sorted(by: { $0.key < $1.key }) where !told.contains(key) && (subject == nil || key.node == subject) {
            items.append(item(key, "wanted", entry))
        }
        return .success(items)
    }

    /// How the breakers on a request's way stand, as the caller's proxies last said: a step for each behind that of its policies.
    func explain(_ explanation: Explanation, of node: String) -> Explanation {
        guard case .success(let items) = list(node: node) else { return explanation }
        let states = Dictionary(grouping: items, by: \.cluster)
        var result = explanation
        result.steps = explanation.steps.flatMap { step -> [Explanation.Step] in
            guard step.what == "policy", let found = states[step.name] else { return [step] }
            let lines = found.filter { $0.state != "closed" }.map(\.line)
            let text = lines.isEmpty ? "all \(found.count) closed" : lines.joined(separator: "\n")
            return [step, Explanation.Step(what: "breakers", name: step.name, text: text)]
        }
        return result
    }

    /// Those that are not simply closed, of the whole mesh.
    var unusual: [BreakerItem] {
        (try? list(node: nil).get()) ?? []
    }

    private func item(_ key: OverrideTable.Key, _ state: String, _ entry: OverrideTable.Entry?) -> BreakerItem {
        var item = BreakerItem(
            node: key.node.path, service: controller.service(ofCluster: key.cluster) ?? key.cluster, cluster: key.cluster,
            endpoint: key.endpoint, state: state)
        item.forced = entry.map {
            BreakerItem.Forced(
                action: $0.forced.action, until: $0.forced.until.text, by: $0.actor, reason: $0.reason.isEmpty ? nil : $0.reason)
        }
        return item
    }
}

extension BreakerItem {
    /// `10.0.0.1:8080 (front-0): open since ..., consecutive_errors; probes begin ...`.
    fileprivate var line: String {
        var text = "\(endpoint ?? "the service as a whole")\(instance.map { " (\($0))" } ?? ""): \(state)"
        if let since { text += " since \(since)" }
        if let reason { text += ", \(reason)" }
        if let until { text += ", until \(until)" }
        if let closes { text += "; \(closes)" }
        return text
    }
}

extension ObjectKey {
    /// `shop/cart`.
    fileprivate var path: String { namespace.map { "\($0)/\(name)" } ?? name }
}

extension OverrideTable {
    /// As proxies of a node get them.
    func overrides(of node: ObjectKey, now: UnixTime) -> [BreakerOverride] {
        current(now: now).filter { $0.key.node == node }.compactMap { key, entry in
            guard let action = BreakerOverride.Action(rawValue: entry.forced.action) else { return nil }
            let target = BreakerOverride.Target(cluster: key.cluster, endpoint: key.endpoint.flatMap { SocketAddress($0) })
            return BreakerOverride(target, action, until: entry.forced.until.milliseconds)
        }
    }
}
