import Base
import MeshCompiler
import MeshModel
import Projections
import ProxyConfig
import XDSServer
import XDSWire

/// What each proxy shall run: compiles the mesh for those that are there, and lays the registered proxies over it as endpoints.
///
/// Compiling is done in the workshop, for all whom a change may concern at once, and again if the mesh changed meanwhile. Endpoints change
/// without it.
final class Publisher {
    /// Which state of the mesh a proxy gets: while a rollout runs, not all get the newest.
    enum Edition: Hashable, Sendable {
        case current
        case previous
    }

    /// What decides what a proxy runs.
    struct Target: Hashable, Sendable {
        var subject: MeshCompiler.Subject
        var hostAddress: IPAddress?
        var edition: Edition
        /// It has a certificate of ours.
        var hasIdentity = false

        fileprivate func options(_ registered: Set<MeshModel.ResourceKey>) -> CompileOptions {
            CompileOptions(hostAddress: hostAddress, registeredNodes: registered, hasIdentity: hasIdentity)
        }
    }

    /// A configuration, ready to be sent.
    struct Configuration {
        var snapshot: Snapshot
        /// What a proxy that runs it calls it.
        var version: String
        var set: ResourceSet
    }

    private struct Entry {
        /// A target may go and come back while the compiler is at work: what it makes is for the one that it was asked for.
        let id: Int
        var compiled: CompiledNode?
        /// What was compiled last, and what that looked at; nil: nothing yet.
        var origin: Origin?
        var faults: [CompileError] = []
        /// Without the registered proxies.
        var base: ResourceSet?
        var assignments: [String: ClusterLoadAssignment] = [:]
        var configuration: Configuration?
        var views: [ClientNode.Program: ResourceSet] = [:]
        /// How many streams use it.
        var users = 0
    }

    /// The mesh that a target was compiled from, or could have been: none of what it read is another in this one.
    private struct Origin: Sendable {
        var mesh: MeshIndex
        var readings: Set<Reading>
    }

    /// The configuration of a target is another one.
    var onChange: ((Set<Target>) -> Void)?
    /// Where a registered proxy of a node takes calls for a port; nil: it does not.
    var endpoints: (ObjectKey) -> [RegisteredEndpoint] = { _ in [] }

    struct RegisteredEndpoint: Hashable {
        var address: IPAddress
        /// By port of the mesh; what is not in it has no listener.
        var ports: [Port: Port]
        var zone: String
        /// With its own certificate of the mesh.
        var takesTLS = false
    }

    private let compiler: Workshop
    private var meshes: [Edition: MeshIndex] = [.current: MeshIndex(MeshResources())]
    private(set) var registered: Set<MeshModel.ResourceKey> = []
    private var entries: [Target: Entry] = [:]
    private var nextEntry = 0
    /// Who calls a node, as was compiled last.
    private var callers: [MeshModel.ResourceKey: Set<Target>] = [:]
    /// What must be compiled again, if the mesh of its edition has changed for it.
    private var dirty: Set<Target> = []
    /// Of these, what must be compiled whatever has changed.
    private var stale: Set<Target> = []
    private var isCompiling = false
    /// How often a target was compiled.
    private(set) var compilations = 0
    private var targets: [MeshCompiler.Subject: Set<Target>] = [:]
    private var waiting: [() -> Void] = []

    init(compiler: Workshop) {
        self.compiler = compiler
    }

    private var revision = 0
    /// The newest revision that every connected proxy's configuration was compiled from.
    private(set) var compiledRevision = 0

    var isSettled: Bool { !isCompiling && dirty.isEmpty }

    // MARK: What it is made of

    /// Whom proxies with a certificate of ours trust, in PEM. It goes to those whose configuration names it.
    var trustBundle: [UInt8] = [] {
        didSet {
            guard trustBundle != oldValue else { return }
            stale.formUnion(entries.keys)
            recompile()
        }
    }

    /// What operators have forced breakers to, by node. It goes out with the settings of the process.
    var overrides: [MeshModel.ResourceKey: [BreakerOverride]] = [:] {
        didSet {
            let changed = Set(overrides.keys).union(oldValue.keys).filter { overrides[$0] != oldValue[$0] }
            guard !changed.isEmpty else { return }
            stale.formUnion(entries.keys.filter { changed.contains($0.subject.key) })
            dirty.formUnion(stale)
            compile()
        }
    }

    /// - Parameter revision: of the mesh, for `compiledRevision`.
    func setMesh(_ mesh: MeshResources, _ edition: Edition = .current, revision: Int = 0) {
        meshes[edition] = MeshIndex(mesh)
        if edition == .current { self.revision = revision }
        recompile()
    }

    /// A rollout has ended: nobody gets the old edition any more.
    func dropPrevious() {
        meshes[.previous] = nil
        dirty = dirty.filter { $0.edition != .previous }
        for target in entries.keys where target.edition == .previous && entries[target]?.users == 0 { remove(target) }
        compile()
    }

    /// The registered proxies of these VirtualNodes are others; of them only `withProxies` have any.
    ///
    /// Costs what those cost that call them: the first proxy of a node, and the last, change what its callers' clusters are.
    func endpointsChanged(of nodes: Set<MeshModel.ResourceKey>, registered withProxies: Set<MeshModel.ResourceKey>) {
        let moved = nodes.filter { registered.contains($0) != withProxies.contains($0) }
        registered.subtract(nodes)
        registered.formUnion(withProxies)
        for node in moved { stale.formUnion(callers[node] ?? []) }
        dirty.formUnion(stale)
        var changed: Set<Target> = []
        // What is to be compiled is published then: a cluster without its endpoints helps nobody in between.
        for target in nodes.reduce(into: Set<Target>(), { $0.formUnion(callers[$1] ?? []) }).subtracting(stale) where publish(target) {
            changed.insert(target)
        }
        if !changed.isEmpty { onChange?(changed) }
        compile()
    }

    // MARK: Who wants it

    func retain(_ target: Target) {
        if entries[target] != nil {
            entries[target]!.users += 1
            return
        }
        nextEntry += 1
        entries[target] = Entry(id: nextEntry, users: 1)
        targets[target.subject, default: []].insert(target)
        dirty.insert(target)
        compile()
    }

    func release(_ target: Target) {
        guard entries[target] != nil else { return }
        entries[target]!.users -= 1
        if entries[target]!.users == 0 { remove(target) }
    }

    private func remove(_ target: Target) {
        setCallees(of: target, [])
        entries[target] = nil
        targets[target.subject]?.remove(target)
        if targets[target.subject]?.isEmpty == true { targets[target.subject] = nil }
    }

    private func setCallees(of target: Target, _ callees: Set<MeshModel.ResourceKey>) {
        let before = entries[target]?.compiled?.calledNodes ?? []
        for node in before.subtracting(callees) {
            callers[node]?.remove(target)
            if callers[node]?.isEmpty == true { callers[node] = nil }
        }
        for node in callees.subtracting(before) { callers[node, default: []].insert(target) }
    }

    func configuration(_ target: Target) -> Configuration? { entries[target]?.configuration }

    func compiled(_ target: Target) -> CompiledNode? { entries[target]?.compiled }

    /// The mesh that is wanted now.
    var mesh: MeshIndex { meshes[.current]! }

    /// Where a node's proxies listen for each port of the mesh: the same for all, but for the address. Nil: nobody has it compiled.
    func inboundPorts(of subject: MeshCompiler.Subject) -> [Port: Port]? {
        let compiled = (targets[subject] ?? []).sorted { $0.edition == .current && $1.edition != .current }.lazy.compactMap(self.compiled)
        return compiled.first?.inboundAddresses.mapValues(\.port)
    }

    /// Of the configuration without the registered proxies.
    func baseVersion(_ target: Target) -> String? { entries[target]?.base?.version }

    /// Why targets have no configuration, or an old one.
    var faults: [(target: Target, errors: [CompileError])] {
        entries.compactMap { $1.faults.isEmpty ? nil : ($0, $1.faults) }
    }

    func resourceSet(_ target: Target, for program: ClientNode.Program) -> ResourceSet? {
        guard let configuration = entries[target]?.configuration else { return nil }
        if program == .outrigger { return configuration.set }
        if let view = entries[target]?.views[program] { return view }
        let view = ResourceSet(configuration.snapshot, for: program)
        entries[target]?.views[program] = view
        return view
    }

    // MARK: Compiling

    private func recompile() {
        dirty.formUnion(entries.keys)
        compile()
    }

    private func compile() {
        guard !isCompiling else { return }
        dirty = dirty.filter { entries[$0] != nil }
        stale.formIntersection(dirty)
        guard !dirty.isEmpty else { return settled() }
        let (meshes, registered, trustBundle, overrides) = (meshes, registered, trustBundle, overrides)
        // What was before a rollout that goes on after a restart is read from the log first: nobody gets anything else meanwhile.
        let targets = dirty.filter { meshes[$0.edition] != nil }
        guard !targets.isEmpty else { return }
        isCompiling = true
        // What it was is compared, and what it has become is encoded, beside the loop.
        let work = targets.map { target -> Work in
            let isStale = stale.contains(target)
            let entry = entries[target]!
            return Work(
                target: target, entry: entry.id, mesh: meshes[target.edition]!, before: entry.compiled, origin: entry.origin,
                isStale: isStale)
        }
        dirty.subtract(targets)
        stale.subtract(targets)
        compiler.run {
            var changes: [ObjectIdentifier: [ObjectIdentifier: MeshChanges]] = [:]
            return work.map { work in
                if let origin = work.origin, !work.isStale {
                    let (from, to) = (ObjectIdentifier(origin.mesh), ObjectIdentifier(work.mesh))
                    let known = changes[from]?[to] ?? MeshChanges(from: origin.mesh, to: work.mesh)
                    changes[from, default: [:]][to] = known
                    if !known.touch(origin.readings) {
                        return Compiled(
                            target: work.target, entry: work.entry, origin: Origin(mesh: work.mesh, readings: origin.readings),
                            outcome: .untouched)
                    }
                }
                return Self.compile(work, registered, trustBundle, overrides)
            }
        } then: { [weak self] (results: [Compiled]) in
            self?.compiled(results, registered)
        }
    }

    private struct Work: Sendable {
        var target: Target
        var entry: Int
        var mesh: MeshIndex
        var before: CompiledNode?
        var origin: Origin?
        /// To be compiled whatever the mesh was.
        var isStale: Bool
    }

    private struct Compiled: Sendable {
        var target: Target
        var entry: Int
        var origin: Origin
        var outcome: Outcome
    }

    private enum Outcome: Sendable {
        /// Nothing that it looked at is another.
        case untouched
        case same
        case compiled(CompiledNode, ResourceSet)
        case failed([CompileError])
    }

    /// For people: what a target would get now, with its endpoints. Compiled anew, beside the loop.
    func compile(_ target: Target, then: @escaping (Result<CompiledNode, CompileErrors>) -> Void) {
        let mesh = meshes[target.edition] ?? mesh
        let options = target.options(registered)
        compiler.run { [trustBundle, overrides] in
            MeshCompiler.compile(mesh, for: target.subject, options: options).result.map {
                $0.trusting(trustBundle).overriding(overrides[target.subject.key] ?? [])
            }
        } then: { [weak self] result in
            guard let self else { return }
            then(
                result.map { node in
                    var node = node
                    let endpoints = assignments(of: node)
                    node.snapshot.loadAssignments = node.snapshot.loadAssignments.map { endpoints[$0.clusterName] ?? $0 }
                    return node
                })
        }
    }

    private static func compile(
        _ work: Work, _ registered: Set<MeshModel.ResourceKey>, _ trustBundle: [UInt8],
        _ overrides: [MeshModel.ResourceKey: [BreakerOverride]]
    ) -> Compiled {
        let found = MeshCompiler.compile(work.mesh, for: work.target.subject, options: work.target.options(registered))
        let outcome: Outcome =
            switch found.result.map({ $0.trusting(trustBundle).overriding(overrides[work.target.subject.key] ?? []) }) {
            case .success(let compiled) where compiled == work.before: .same
            case .success(let compiled): .compiled(compiled, ResourceSet(compiled.snapshot))
            case .failure(let failure): .failed(failure.errors)
            }
        return Compiled(target: work.target, entry: work.entry, origin: Origin(mesh: work.mesh, readings: found.readings), outcome: outcome)
    }

    /// - Parameter then: the nodes that had registered proxies when this was begun.
    private func compiled(_ results: [Compiled], _ then: Set<MeshModel.ResourceKey>) {
        isCompiling = false
        let moved = registered.symmetricDifference(then)
        var bases: [Target: ResourceSet?] = [:]
        for result in results where entries[result.target]?.id == result.entry {
            let target = result.target
            entries[target]!.origin = result.origin
            switch result.outcome {
            case .untouched: continue
            case .same:
                entries[target]!.faults = []
                bases.updateValue(nil, forKey: target)
            case .compiled(let compiled, let base):
                setCallees(of: target, compiled.calledNodes)
                let ports = entries[target]!.compiled?.inboundAddresses
                entries[target]!.faults = []
                entries[target]!.compiled = compiled
                bases.updateValue(base, forKey: target)
                // Its proxies listen elsewhere now.
                guard ports != compiled.inboundAddresses else { break }
                for caller in callers[target.subject.key] ?? [] where !bases.keys.contains(caller) {
                    bases.updateValue(nil, forKey: caller)
                }
            case .failed(let errors):
                // What it has stays good; a node that was deleted keeps its last configuration until its proxy goes.
                entries[target]!.faults = errors
                bases.updateValue(nil, forKey: target)
                if !moved.isEmpty { stale.insert(target) }
            }
            compilations += 1
            if entries[target]!.compiled?.calledNodes.isDisjoint(with: moved) == false { stale.insert(target) }
        }
        dirty.formUnion(stale)
        // When all are as they are now: where a node's proxies listen decides what its callers get.
        var changed: Set<Target> = []
        for (target, base) in bases where publish(target, newBase: base) { changed.insert(target) }
        if !changed.isEmpty { onChange?(changed) }
        compile()
    }

    /// Calls back when everything that was asked for is compiled: now, if it is.
    func whenSettled(_ body: @escaping () -> Void) {
        guard !isSettled else { return body() }
        waiting.append(body)
    }

    private func settled() {
        compiledRevision = revision
        let bodies = waiting
        waiting = []
        for body in bodies { body() }
    }

    // MARK: Endpoints

    /// The load assignments of a node with the registered proxies in them; those that have none are left out.
    func assignments(of compiled: CompiledNode) -> [String: ClusterLoadAssignment] {
        var assignments: [String: ClusterLoadAssignment] = [:]
        let spared = Set(
            compiled.snapshot.clusters.compactMap { cluster -> String? in
                guard cluster.tls?.sparesPlaintextEndpoints == true, case .eds(let name) = cluster.discovery else { return nil }
                return name
            })
        for (name, source) in compiled.endpointSources where registered.contains(source.node) {
            guard var assignment = compiled.snapshot.loadAssignments.first(where: { $0.clusterName == name }) else { continue }
            assignment.add(endpoints(ObjectKey(source.node)), port: source.port, sparesPlaintext: spared.contains(name))
            assignments[name] = assignment
        }
        return assignments
    }

    /// Lays the registered proxies over what was compiled. False: nothing is new.
    ///
    /// - Parameter newBase: what was compiled now, encoded.
    private func publish(_ target: Target, newBase: ResourceSet? = nil) -> Bool {
        guard var entry = entries[target], let compiled = entry.compiled else { return false }
        let assignments = assignments(of: compiled)
        let isNew = newBase != nil
        guard let base = newBase ?? entry.base, isNew || assignments != entry.assignments else { return false }
        let moved = assignments.filter { isNew || entry.assignments[$0.key] != $0.value }.map(\.value)
        var snapshot = compiled.snapshot
        snapshot.loadAssignments = snapshot.loadAssignments.map { assignments[$0.clusterName] ?? $0 }
        let set = ResourceSet(entry.configuration.flatMap { isNew ? nil : $0.set } ?? base, replacing: moved)
        entry.base = base
        entry.assignments = assignments
        entry.views = [:]
        let isSame = entry.configuration?.set.version == set.version
        entry.configuration = Configuration(snapshot: snapshot, version: SnapshotFile.version(of: snapshot), set: set)
        entries[target] = entry
        return !isSame
    }
}

extension CompiledNode {
    fileprivate func overriding(_ overrides: [BreakerOverride]) -> CompiledNode {
        guard !overrides.isEmpty else { return self }
        var node = self
        node.snapshot.process.overrides = overrides
        return node
    }

    /// With the mesh's trust bundle, if some TLS of it asks for that by name.
    fileprivate func trusting(_ bundle: [UInt8]) -> CompiledNode {
        let name = Secret.bundleName
        let isNamed =
            snapshot.listeners.contains { $0.filterChains.contains { $0.tls?.validation?.trust == .sds(name: name) } }
            || snapshot.clusters.contains { $0.tls?.validation?.trust == .sds(name: name) }
        guard isNamed, !bundle.isEmpty else { return self }
        var node = self
        node.snapshot.secrets.append(Secret(name: name, content: .trust(authorities: bundle, subjectAlternativeNames: [])))
        return node
    }
}

extension ClusterLoadAssignment {
    /// Adds registered proxies to their zones. What an EndpointSet has named already stands once.
    ///
    /// - Parameter sparesPlaintext: those that take no TLS are told from the others.
    fileprivate mutating func add(_ registered: [Publisher.RegisteredEndpoint], port: Port, sparesPlaintext: Bool) {
        for proxy in registered {
            guard let bound = proxy.ports[port] else { continue }
            let endpoint = Endpoint(host: .ip(proxy.address), port: bound, isPlaintext: sparesPlaintext && !proxy.takesTLS)
            let isNamed = localities.indices.contains { locality in
                let named = localities[locality].endpoints.firstIndex { $0.host == endpoint.host && $0.port == bound }
                if let named { localities[locality].endpoints[named].isPlaintext = endpoint.isPlaintext }
                return named != nil
            }
            if isNamed { continue }
            let locality = Locality(zone: proxy.zone)
            if let index = localities.firstIndex(where: { $0.locality == locality }) {
                localities[index].endpoints.append(endpoint)
                localities[index].weight += 1
            } else {
                localities.append(LocalityEndpoints(locality: locality, weight: 1, endpoints: [endpoint]))
            }
        }
        localities.sort { $0.locality.zone < $1.locality.zone }
    }
}
