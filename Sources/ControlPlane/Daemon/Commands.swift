import Base
import ControlAPI
import EventStore
import MeshModel
import MeshYAML
import Projections
import Rollout

/// Commands of users, one after the other: each is planned for the mesh as the one before left it.
///
/// Planning (YAML, all the rules) is done in the workshop on a copy; what it came to is recorded before anybody is told.
final class CommandQueue {
    enum Command: Sendable {
        case apply([ManifestFile], strict: Bool, namespace: String)
        case deleteFiles([ManifestFile], namespace: String)
        case delete([ObjectKey])
        case rollback(Int)
    }

    struct Request {
        var command: Command
        var actor: String
        var reason: String
        var isDryRun: Bool
        var rollout: StagedPlan?
    }

    private enum Outcome: Sendable {
        case plan(ChangePlan)
        case refusal(CommandRefusal)
        case unknownRevision(UnknownRevision)
        case failure(String)
    }

    /// Requests that wait; more are refused.
    static let maxWaiting = 256

    private let controller: Controller
    private var waiting: [(Request, (Result<ChangeResult, Problem>) -> Void)] = []
    private var isBusy = false

    init(_ controller: Controller) {
        self.controller = controller
    }

    func submit(_ request: Request, then: @escaping (Result<ChangeResult, Problem>) -> Void) {
        guard waiting.count < Self.maxWaiting else {
            return then(.failure(Problem("busy", status: 503, title: "Too many commands are waiting", detail: "Try again in a moment.")))
        }
        waiting.append((request, then))
        next()
    }

    private func next() {
        guard !isBusy, !waiting.isEmpty else { return }
        isBusy = true
        let (request, then) = waiting.removeFirst()
        run(request) { [weak self] result in
            then(result)
            self?.isBusy = false
            self?.next()
        }
    }

    private func run(_ request: Request, then: @escaping (Result<ChangeResult, Problem>) -> Void) {
        if !request.isDryRun, let running = controller.rollouts.running {
            let detail = "Revision \(running) is being rolled out; wait for its end, or stop it: outrigger rollout stop \(running)"
            return then(.failure(Problem("rollout-running", status: 409, title: "A rollout is running", detail: detail)))
        }
        let models = controller.journal.models
        let (desired, history, log) = (models.desired, models.history, controller.journal.log)
        let command = request.command
        controller.workshop.run {
            Self.plan(command, desired, history, log)
        } then: { [weak self] outcome in
            self?.planned(outcome, request, then)
        }
    }

    private static func plan(_ command: Command, _ desired: DesiredState, _ history: History, _ log: SQLiteEventLog) -> Outcome {
        func outcome(_ result: Result<ChangePlan, CommandRefusal>) -> Outcome {
            switch result {
            case .success(let plan): .plan(plan)
            case .failure(let refusal): .refusal(refusal)
            }
        }
        switch command {
        case .apply(let files, let strict, let namespace):
            return outcome(Projections.Command.plan(apply: files, onto: desired, strict: strict, defaultNamespace: namespace))
        case .deleteFiles(let files, let namespace):
            return outcome(Projections.Command.plan(delete: files, from: desired, defaultNamespace: namespace))
        case .delete(let keys):
            return .plan(Projections.Command.plan(delete: keys, from: desired))
        case .rollback(let revision):
            do {
                let past = try PastStates(log: log, history: history).state(atRevision: revision)
                return outcome(Projections.Command.plan(rollbackTo: past, from: desired))
            } catch let error as UnknownRevision {
                return .unknownRevision(error)
            } catch {
                return .failure("\(error)")
            }
        }
    }

    private func planned(_ outcome: Outcome, _ request: Request, _ then: @escaping (Result<ChangeResult, Problem>) -> Void) {
        switch outcome {
        case .plan(let plan): commit(plan, request, then)
        case .refusal(let refusal): then(.failure(.invalid(refusal.diagnostics)))
        case .unknownRevision(let error):
            then(.failure(Problem("unknown-revision", status: 404, title: "No such revision", detail: "\(error)")))
        case .failure(let text): then(.failure(.internal(text)))
        }
    }

    private func commit(_ plan: ChangePlan, _ request: Request, _ then: @escaping (Result<ChangeResult, Problem>) -> Void) {
        var result = ChangeResult(
            revision: request.isDryRun ? plan.basedOn : plan.revision, isDryRun: request.isDryRun,
            changes: plan.changes.map { ResourceChange($0) }, warnings: plan.warnings.map { DiagnosticMessage($0) })
        guard !request.isDryRun, !plan.events.isEmpty else {
            result.revision = plan.basedOn
            return then(.success(result))
        }
        var events = plan.events
        if let staged = request.rollout {
            // In the same batch as the change: a control plane that dies here has either both or none.
            events.append(controller.rollouts.begin(staged, revision: plan.revision, from: plan.basedOn))
            result.rollout = "\(plan.revision)"
        }
        controller.journal.record(events, actor: request.actor, reason: request.reason) { [weak self] recorded in
            switch recorded {
            case .success:
                if request.rollout != nil { self?.controller.rollouts.begun() }
                then(.success(result))
            case .failure(let error):
                self?.controller.rollouts.notBegun()
                then(.failure(Problem("store", status: 507, title: "The change could not be recorded", detail: "\(error)")))
            }
        }
    }
}

extension Problem {
    static func invalid(_ diagnostics: [Diagnostic]) -> Problem {
        let errors = diagnostics.count { $0.severity == .error }
        return Problem(
            "invalid-resources", status: 422, title: "The resources are not valid",
            detail: "\(errors) error\(errors == 1 ? "" : "s"); nothing was changed", diagnostics: diagnostics.map { DiagnosticMessage($0) })
    }

    static func `internal`(_ text: String) -> Problem { Problem("internal", status: 500, title: "The control plane failed", detail: text) }
}

extension DiagnosticMessage {
    init(_ diagnostic: Diagnostic) {
        self.init(
            severity: diagnostic.severity.rawValue, file: diagnostic.file, line: diagnostic.line, column: diagnostic.column,
            resource: diagnostic.resource, path: diagnostic.path.steps.isEmpty ? nil : diagnostic.path.description,
            expected: diagnostic.expected, found: diagnostic.found, message: diagnostic.description)
    }
}

extension ResourceChange {
    init(_ change: ChangePlan.Change) {
        self.init(resource: ResourceName(change.key), action: Action(change.action))
    }
}

extension ResourceChange.Action {
    init(_ action: ChangePlan.Action) {
        self =
            switch action {
            case .created: .created
            case .configured: .configured
            case .deleted: .deleted
            // What was to go and is not there is as it should be.
            case .unchanged, .notFound: .unchanged
            }
    }
}

extension ResourceName {
    init(_ key: ObjectKey) {
        self.init(kind: key.kind, namespace: key.namespace, name: key.name)
    }
}
