import Base
import MeshCompiler
import MeshModel
import Projections
import ProxyConfig
import XDSServer
import XDSWire

/// What each proxy shall run: compiles the mesh for those that are there, and lays the registered proxies over it as endpoints.
///
/// Compiling is done in the workshop, for all at once, and again if the mesh changed meanwhile. Endpoints change without it.
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
    }

    /// A configuration, ready to be sent.
    struct Configuration {
        var snapshot: Snapshot
        /// What a proxy that runs it calls it.
        var version: String
        var set: ResourceSet
    }

    private struct Entry {
        var compiled: CompiledNode?
        var faults: [CompileError] = []
        /// Without the registered proxies.
        var base: ResourceSet?
        var assignments: [String: ClusterLoadAssignment] = [:]
        var configuration: Configuration?
        var views: [ClientNode.Program: ResourceSet] = [:]
        /// How many streams use it.
        var users = 0
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
    }

    private let compiler: Workshop
    private var meshes: [Edition: MeshResources] = [.current: MeshResources()]
    private(set) var registered: Set<MeshModel.ResourceKey> = []
    private var entries: [Target: Entry] = [:]
    /// Who calls a node, as was compiled last.
    private var callers: [MeshModel.ResourceKey: Set<Target>] = [:]
    /// What must be compiled again.
    private var dirty: Set<Target> = []
    private var isCompiling = false
    private(set) var compilations = 0
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
        didSet { if trustBundle != oldValue { recompile() } }
    }

    /// - Parameter revision: of the mesh, for `compiledRevision`.
    func setMesh(_ mesh: MeshResources, _ edition: Edition = .current, revision: Int = 0) {
        meshes[edition] = mesh
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
        for node in moved { dirty.formUnion(callers[node] ?? []) }
        var changed: Set<Target> = []
        // What is to be compiled is published then: a cluster without its endpoints helps nobody in between.
        for target in nodes.reduce(into: Set<Target>(), { $0.formUnion(callers[$1] ?? []) }).subtracting(dirty) where publish(target) {
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
        entries[target] = Entry(users: 1)
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
        guard !dirty.isEmpty else { return settled() }
        let (meshes, registered, trustBundle) = (meshes, registered, trustBundle)
        // What was before a rollout that goes on after a restart is read from the log first: nobody gets anything else meanwhile.
        let targets = dirty.filter { meshes[$0.edition] != nil }
        guard !targets.isEmpty else { return }
        isCompiling = true
        dirty.subtract(targets)
        compilations += 1
        // What it was is compared, and what it has become is encoded, beside the loop.
        let work = targets.map { ($0, entries[$0]?.compiled) }
        compiler.run {
            work.map { target, before -> (Target, Outcome) in
                let mesh = meshes[target.edition]!
                let options = CompileOptions(hostAddress: target.hostAddress, registeredNodes: registered)
                switch MeshCompiler.compile(mesh, for: target.subject, options: options).map({ $0.trusting(trustBundle) }) {
                case .success(let compiled) where compiled == before: return (target, .same)
                case .success(let compiled): return (target, .compiled(compiled, ResourceSet(compiled.snapshot)))
                case .failure(let failure): return (target, .failed(failure.errors))
                }
            }
        } then: { [weak self] (results: [(Target, Outcome)]) in
            self?.compiled(results, registered)
        }
    }

    private enum Outcome: Sendable {
        case same
        case compiled(CompiledNode, ResourceSet)
        case failed([CompileError])
    }

    /// - Parameter then: the nodes that had registered proxies when this was begun.
    private func compiled(_ results: [(Target, Outcome)], _ then: Set<MeshModel.ResourceKey>) {
        isCompiling = false
        let moved = registered.symmetricDifference(then)
        var changed: Set<Target> = []
        for (target, outcome) in results {
            guard entries[target] != nil else { continue }
            switch outcome {
            case .same:
                entries[target]!.faults = []
                if publish(target) { changed.insert(target) }
            case .compiled(let compiled, let base):
                setCallees(of: target, compiled.calledNodes)
                entries[target]!.faults = []
                entries[target]!.compiled = compiled
                if publish(target, newBase: base) { changed.insert(target) }
            case .failed(let errors):
                // What it has stays good; a node that was deleted keeps its last configuration until its proxy goes.
                entries[target]!.faults = errors
                if publish(target) { changed.insert(target) }
                if !moved.isEmpty { dirty.insert(target) }
            }
            if entries[target]!.compiled?.calledNodes.isDisjoint(with: moved) == false { dirty.insert(target) }
        }
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
        for (name, source) in compiled.endpointSources where registered.contains(source.node) {
            guard var assignment = compiled.snapshot.loadAssignments.first(where: { $0.clusterName == name }) else { continue }
            assignment.add(endpoints(ObjectKey(source.node)), port: source.port)
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
    fileprivate mutating func add(_ registered: [Publisher.RegisteredEndpoint], port: Port) {
        for proxy in registered {
            guard let bound = proxy.ports[port] else { continue }
            let endpoint = Endpoint(host: .ip(proxy.address), port: bound)
            if localities.contains(where: { $0.endpoints.contains { $0.host == endpoint.host && $0.port == bound } }) { continue }
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
