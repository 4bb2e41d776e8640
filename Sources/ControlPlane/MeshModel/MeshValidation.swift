import Base

/// Finds what is wrong between resources: each of them alone is already known to be well formed.
///
/// References may lead nowhere (files come in any order, and App Mesh allowed it): that is a warning, and what is behind them is not
/// looked at. Texts that App Mesh had are App Mesh's.
public enum MeshValidation {
    /// - Parameters:
    ///   - alsoDeclared: Resources that exist but could not be read: references to them are good.
    ///   - isComplete: False where there may be more resources, of which nothing is known: then nothing is called missing.
    /// - Returns: Everything found, sorted by no particular rule; places are those of `resources.places`.
    public static func validate(
        _ resources: MeshResources, alsoDeclared: Set<ResourceKey> = [], isComplete: Bool = true
    ) -> [Diagnostic] {
        var checker = MeshChecker(resources, alsoDeclared: alsoDeclared, isComplete: isComplete)
        checker.checkMembership()
        checker.checkNames()
        checker.checkVirtualNodes()
        checker.checkVirtualServices()
        checker.checkVirtualRouters()
        checker.checkVirtualGateways()
        checker.checkGatewayRoutes()
        checker.checkBackendGroups()
        checker.checkSidecars()
        checker.checkEndpointSets()
        checker.checkMeshPolicies()
        checker.checkTrafficPolicies()
        return checker.diagnostics
    }
}

/// One validation under way. The checks of each kind stand in files of their own.
struct MeshChecker {
    let resources: MeshResources
    let alsoDeclared: Set<ResourceKey>
    let isComplete: Bool
    private(set) var diagnostics: [Diagnostic] = []

    init(_ resources: MeshResources, alsoDeclared: Set<ResourceKey>, isComplete: Bool) {
        self.resources = resources
        self.alsoDeclared = alsoDeclared
        self.isComplete = isComplete
    }

    /// Are all resources of the kind known, so that what is not among them is not there?
    func knowsAll(_ kind: ResourceKind) -> Bool {
        isComplete && alsoDeclared.allSatisfy { $0.kind != kind || isKnown($0) }
    }

    mutating func error(_ key: ResourceKey, _ path: FieldPath, _ problem: Diagnostic.Problem) { add(.error, key, path, problem) }

    mutating func warn(_ key: ResourceKey, _ path: FieldPath, _ text: String) { add(.warning, key, path, .message(text)) }

    private mutating func add(_ severity: Diagnostic.Severity, _ key: ResourceKey, _ path: FieldPath, _ problem: Diagnostic.Problem) {
        let place = resources.places.location(of: path, in: key)
        diagnostics.append(
            Diagnostic(
                severity, file: place?.file ?? "", line: place?.line, column: place?.column, document: place?.document, resource: "\(key)",
                path: path, problem))
    }

    func place(of key: ResourceKey) -> String {
        resources.places.location(in: key).map { " at \($0)" } ?? ""
    }

    func exists(_ key: ResourceKey) -> Bool {
        !isComplete || alsoDeclared.contains(key) || isKnown(key)
    }

    private func isKnown(_ key: ResourceKey) -> Bool {
        switch key.kind {
        case .mesh: resources.meshes[key] != nil
        case .virtualNode: resources.virtualNodes[key] != nil
        case .virtualService: resources.virtualServices[key] != nil
        case .virtualRouter: resources.virtualRouters[key] != nil
        case .virtualGateway: resources.virtualGateways[key] != nil
        case .gatewayRoute: resources.gatewayRoutes[key] != nil
        case .backendGroup: resources.backendGroups[key] != nil
        case .sidecar: resources.sidecars[key] != nil
        case .endpointSet: resources.endpointSets[key] != nil
        case .meshPolicy: resources.meshPolicies[key] != nil
        case .trafficPolicy: resources.trafficPolicies[key] != nil
        }
    }

    /// Where a reference leads must exist and be of the same mesh.
    mutating func check(_ reference: ObjectReference, to kind: ResourceKind, from referrer: some MeshResource, at path: FieldPath) {
        let target = reference.key(kind, from: referrer.meta)
        guard exists(target) else {
            warn(referrer.key, path, "unresolved reference: \(target.qualified) is unknown")
            return
        }
        guard let other = target.namespace, other != referrer.meta.namespace else { return }
        let here = resources.membership(ofNamespace: referrer.meta.namespace).mesh?.key
        let there = resources.membership(ofNamespace: other).mesh?.key
        if let here, let there, here != there {
            error(referrer.key, path, .mismatch(expected: "a reference inside of \(here)", found: "\(target.qualified), of \(there)"))
        }
    }

    /// `stem` is the field without its `Ref` or `ARN`.
    mutating func check(
        _ reference: ResourceReference, to kind: ResourceKind, from referrer: some MeshResource, at parent: FieldPath, _ stem: String
    ) {
        switch reference {
        case .object(let reference): check(reference, to: kind, from: referrer, at: parent / "\(stem)Ref")
        case .arn: warn(referrer.key, parent / "\(stem)ARN", "an ARN names what is in AWS and cannot be found here: nothing goes there")
        }
    }

    /// A port must be there once.
    mutating func checkDuplicates(ofPorts ports: [(Port, FieldPath)], in key: ResourceKey) {
        var first: [Port: FieldPath] = [:]
        for (port, path) in ports {
            if let other = first[port] {
                error(key, path, .message("port \(port) is already that of \(other)"))
            } else {
                first[port] = path
            }
        }
    }

    /// A `port` of a match or a target: one of the listeners', and needed where there are several.
    mutating func check(
        _ port: Port?, isOneOf mappings: [PortMapping], of owner: String, from key: ResourceKey, at path: FieldPath,
        neededAs: Diagnostic.Severity
    ) {
        guard !mappings.isEmpty else { return }
        let ports = mappings.map { "\($0.port)" }.joined(separator: ", ")
        if let port {
            if !mappings.contains(where: { $0.port == port }) {
                error(
                    key, path,
                    .mismatch(expected: mappings.count == 1 ? "\(owner) port \(ports)" : "one of \(owner) ports \(ports)", found: "\(port)")
                )
            }
        } else if mappings.count > 1 {
            let problem = Diagnostic.Problem.message("required, as there are several of \(owner) ports: \(ports)")
            add(neededAs, key, path, problem)
        }
    }
}

extension FieldPath {
    static let spec = FieldPath() / "spec"
}
