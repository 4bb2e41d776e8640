public import EventStore
public import MeshModel
public import MeshYAML

/// What a command would do: nothing is done before its events are in the log.
public struct ChangePlan: Sendable {
    public enum Action: String, Hashable, Sendable, Codable {
        case created
        case configured
        /// Already so, by meaning: it makes no event.
        case unchanged
        case deleted
        /// Was to be deleted and is not there.
        case notFound
    }

    public struct Change: Hashable, Sendable {
        public var key: ObjectKey
        public var action: Action
    }

    /// In the order of the request.
    public internal(set) var changes: [Change] = []
    /// Empty where nothing changes.
    public internal(set) var events: [MeshEvent] = []
    /// What the author should know of what was asked for.
    public internal(set) var warnings: [Diagnostic] = []
    /// The revision that the plan was made for, and the one that the events make.
    public let basedOn: Int
    public var revision: Int { events.isEmpty ? basedOn : basedOn + 1 }

    init(basedOn state: DesiredState) {
        basedOn = state.revision
    }

    /// The events to append; nil where nothing changes. Whoever appends it makes sure that no other command comes in between.
    public func batch(actor: String, reason: String = "", time: UnixTime) -> EventBatch? {
        events.isEmpty ? nil : EventBatch(events: events.map(\.draft), actor: actor, reason: reason, time: time)
    }
}

/// Why a command is refused: all errors of all files, with the warnings between them.
public struct CommandRefusal: Error, Sendable {
    public var diagnostics: [Diagnostic]
}

/// Commands, as functions of the state that they change.
public enum Command {
    /// Creates and changes objects. Nothing of a request with an error is applied.
    ///
    /// - Parameter state: Settled, or it is parsed for this call.
    public static func plan(
        apply files: [ManifestFile], onto state: DesiredState, strict: Bool = false, defaultNamespace: String = "default"
    ) -> Result<ChangePlan, CommandRefusal> {
        let options = LoadOptions(strict: strict, defaultNamespace: defaultNamespace)
        let read = MeshLoader.manifests(in: files, options: options)
        var diagnostics = read.diagnostics
        var wanted: [(key: ObjectKey, manifest: Manifest)] = []
        var firsts: [ObjectKey: Int] = [:]
        for manifest in read.manifests {
            let key = manifest.key
            guard let first = firsts[key] else {
                firsts[key] = wanted.count
                wanted.append((key, manifest))
                continue
            }
            // Many files declare their namespace again: that is as good as once.
            if key.isNamespace, wanted[first].manifest.content == manifest.content { continue }
            let place = wanted[first].manifest.location
            diagnostics.append(
                Diagnostic(.error, at: manifest.location, resource: "\(key.kind)/\(key.name)", .message("already defined at \(place)")))
        }
        if wanted.count > EventLimits.maxEvents {
            let text = "\(wanted.count) objects in one request, at most \(EventLimits.maxEvents)"
            diagnostics.append(Diagnostic(.error, file: files.first?.name ?? "", .message(text)))
        }

        let before = state.mesh
        var after = before
        for (_, manifest) in wanted { after.insert(manifest) }
        let found = MeshValidation.validate(after, alsoDeclared: read.declared, isComplete: read.isComplete)
        // What was wrong before, by the rules of a newer version, is not this request's fault and must not hinder its repair.
        let standing = found.isEmpty ? [] : Set(MeshValidation.validate(before))
        let names = Set(files.map(\.name))
        let subjects = Set(wanted.map { "\($0.key.kind)/\($0.key.name)" })
        diagnostics += found.filter { diagnostic in
            let isAsked = names.contains(diagnostic.file) && diagnostic.resource.map(subjects.contains) ?? true
            return !standing.contains(diagnostic) || (diagnostic.severity == .warning && isAsked)
        }
        diagnostics.sort(by: files.map(\.name))
        guard !diagnostics.contains(where: { $0.severity == .error }) else {
            return .failure(CommandRefusal(diagnostics: diagnostics))
        }

        var plan = ChangePlan(basedOn: state)
        plan.warnings = diagnostics
        for (key, manifest) in wanted {
            let action =
                state.objects[key] == nil
                ? ChangePlan.Action.created : before.content(of: key) == manifest.content ? .unchanged : .configured
            plan.changes.append(ChangePlan.Change(key: key, action: action))
            guard action != .unchanged else { continue }
            let object = AppliedObject(key: key, document: manifest.text, file: manifest.location.file, line: manifest.line)
            plan.events.append(key.isNamespace ? .namespaceApplied(object) : .resourceApplied(object))
        }
        return .success(plan)
    }

    /// Deletes objects. Refuses nothing: what then leads nowhere is a warning.
    public static func plan(delete keys: [ObjectKey], from state: DesiredState) -> ChangePlan {
        var plan = ChangePlan(basedOn: state)
        let before = state.mesh
        var after = before
        var seen: Set<ObjectKey> = []
        for key in keys where seen.insert(key).inserted {
            let isThere = state.objects[key] != nil
            plan.changes.append(ChangePlan.Change(key: key, action: isThere ? .deleted : .notFound))
            guard isThere else { continue }
            plan.events.append(key.isNamespace ? .namespaceDeleted(key) : .resourceDeleted(key))
            after.remove(key)
        }
        plan.warnings = newProblems(in: after, notIn: before)
        return plan
    }

    /// Deletes what files name. Only names are looked at; a file that cannot be read is refused.
    public static func plan(
        delete files: [ManifestFile], from state: DesiredState, defaultNamespace: String = "default"
    ) -> Result<ChangePlan, CommandRefusal> {
        let read = MeshLoader.manifests(in: files, options: LoadOptions(defaultNamespace: defaultNamespace))
        guard read.isComplete else {
            return .failure(CommandRefusal(diagnostics: read.diagnostics))
        }
        let known = read.manifests.map(\.key)
        return .success(plan(delete: known + read.declared.map { ObjectKey($0) }.filter { !known.contains($0) }.sorted(), from: state))
    }

    /// Goes back to what was desired at another time, by new events: history is not undone.
    public static func plan(rollbackTo past: DesiredState, from state: DesiredState) -> Result<ChangePlan, CommandRefusal> {
        var plan = ChangePlan(basedOn: state)
        var target = DesiredState()
        for (key, object) in past.objects.sorted(by: { $0.key < $1.key }) {
            target.set(key, to: object)
            let now = state.objects[key]
            guard now?.document != object.document else { continue }
            plan.changes.append(ChangePlan.Change(key: key, action: now == nil ? .created : .configured))
            let applied = AppliedObject(key: key, document: object.document, file: object.file, line: object.line)
            plan.events.append(key.isNamespace ? .namespaceApplied(applied) : .resourceApplied(applied))
        }
        // The other way round than they were created: namespaces last.
        for key in state.objects.keys.sorted(by: >) where past.objects[key] == nil {
            plan.changes.append(ChangePlan.Change(key: key, action: .deleted))
            plan.events.append(key.isNamespace ? .namespaceDeleted(key) : .resourceDeleted(key))
        }
        guard !plan.events.isEmpty else { return .success(plan) }
        target.settle()
        // It was good when it was taken; by the rules of a newer version it may not be.
        let problems = target.unreadable.sorted { $0.key < $1.key }.flatMap(\.value) + MeshValidation.validate(target.mesh)
        guard !problems.contains(where: { $0.severity == .error }) else { return .failure(CommandRefusal(diagnostics: problems)) }
        plan.warnings = newProblems(in: target.mesh, notIn: state.mesh)
        plan.events.insert(.commandNote(CommandNote(command: "rollback", revision: past.revision)), at: 0)
        return .success(plan)
    }

    private static func newProblems(in after: MeshResources, notIn before: MeshResources) -> [Diagnostic] {
        let found = MeshValidation.validate(after)
        let standing = found.isEmpty ? [] : Set(MeshValidation.validate(before))
        return found.filter { !standing.contains($0) }.map { diagnostic in
            var warning = diagnostic
            warning.severity = .warning
            return warning
        }
    }
}

extension Manifest {
    /// What it is called in the desired state.
    public var key: ObjectKey {
        switch content {
        case .resource(let resource): ObjectKey(resource.key)
        case .namespace(let namespace): ObjectKey(namespace: namespace.name)
        }
    }
}

extension MeshResources {
    fileprivate func content(of key: ObjectKey) -> Manifest.Content? {
        if let key = key.resource { return self[key].map { .resource($0) } }
        return namespaces[key.name].map { .namespace($0) }
    }

    fileprivate mutating func insert(_ manifest: Manifest) {
        switch manifest.content {
        case .resource(let resource):
            insert(resource)
            places.set(manifest.places, for: resource.key)
        case .namespace(let namespace): namespaces[namespace.name] = namespace
        }
    }

    fileprivate mutating func remove(_ key: ObjectKey) {
        if let key = key.resource { remove(key) } else { namespaces[key.name] = nil }
    }
}

extension [Diagnostic] {
    /// By file, as they were given, and place; what stands at one place keeps its order.
    fileprivate mutating func sort(by files: [String]) {
        let order = Dictionary(files.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        self = enumerated().sorted { left, right in
            let leftKey = (order[left.element.file] ?? .max, left.element.line ?? 0, left.element.column ?? 0, left.offset)
            let rightKey = (order[right.element.file] ?? .max, right.element.line ?? 0, right.element.column ?? 0, right.offset)
            return leftKey < rightKey
        }.map(\.element)
    }
}
