import ArgumentParser
import ControlAPI

struct Apply: ControlCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes the mesh hold the resources of files.",
        discussion: """
            All of it, or, where one file has an error, nothing; each error is a line with its place. Applying the same again changes \
            nothing. --rollout brings the change to the proxies in stages and takes it back when they do worse.

            EXAMPLES
              outrigger apply -f mesh/
              outrigger apply -f mesh/ --dry-run
              outrigger apply -f router.yaml --reason 'blue takes half' --wait
              outrigger apply -f router.yaml --rollout canary=1,25%,100% --pause 1m --max-errors 2% --wait
            """)

    @OptionGroup var input: FileOptions
    @OptionGroup var rollout: RolloutOptions
    @OptionGroup var waiting: WaitOptions
    @OptionGroup var control: ControlOptions

    @Flag(name: .customLong("dry-run"), help: "Checks and tells what would change, and changes nothing.")
    var dryRun = false

    @Flag(help: "Unknown fields are errors, not warnings.")
    var strict = false

    @Option(name: .shortAndLong, help: ArgumentHelp("The namespace of resources that name none.", valueName: "namespace"))
    var namespace: String?

    @Option(help: ArgumentHelp("Why, for the history.", valueName: "text"))
    var reason: String?

    @Option(name: .customShort("o"), help: ArgumentHelp("table or json.", valueName: "format"))
    var output = ListOutput.table

    func validate() throws {
        if input.files.isEmpty { throw ValidationError("Nothing to apply. Name files or directories with -f, or - for standard input.") }
        if dryRun, waiting.wait { throw ValidationError("--dry-run changes nothing to --wait for.") }
    }

    func run(_ session: Session) throws {
        let plan = try rollout.plan()
        let request = ApplyRequest(
            files: try session.sources(input.files), namespace: namespace ?? session.namespace, strict: strict ? true : nil,
            dryRun: dryRun ? true : nil, reason: reason, rollout: plan)
        let result = try session.post("/v1/apply", request, as: ChangeResult.self)
        try session.show(result, isAsJSON: output == .json)
        if waiting.wait { try session.waitUntilApplied(result, atMost: waiting.seconds(plan)) }
    }
}

struct Delete: ControlCommand {
    static let configuration = CommandConfiguration(
        abstract: "Takes resources out of the mesh.",
        discussion: """
            Those that files hold, or those that are named. What is not there is no error.

            EXAMPLES
              outrigger delete -f old.yaml
              outrigger delete virtualnode cart -n shop
              outrigger delete vs/color vr/color --dry-run
              outrigger delete vs/color --rollout 1,100% --pause 1m --wait
            """)

    @Argument(help: ArgumentHelp("KIND NAME..., or KIND/NAME...", valueName: "resource"))
    var words: [String] = []

    @OptionGroup var input: FileOptions
    @OptionGroup var rollout: RolloutOptions
    @OptionGroup var waiting: WaitOptions
    @OptionGroup var control: ControlOptions

    @Option(name: .shortAndLong, help: ArgumentHelp("The namespace (default: the context's, or 'default').", valueName: "namespace"))
    var namespace: String?

    @Flag(name: .customLong("dry-run"), help: "Tells what would go, and changes nothing.")
    var dryRun = false

    @Option(help: ArgumentHelp("Why, for the history.", valueName: "text"))
    var reason: String?

    @Option(name: .customShort("o"), help: ArgumentHelp("table or json.", valueName: "format"))
    var output = ListOutput.table

    func validate() throws {
        guard words.isEmpty != input.files.isEmpty else { throw ValidationError("Name either resources (KIND NAME) or files (-f).") }
        if !words.isEmpty, try ResourceSelection(words, namespace: "default").names.isEmpty {
            throw ValidationError("Name the resources: a kind alone would be all of them.")
        }
        if dryRun, waiting.wait { throw ValidationError("--dry-run changes nothing to --wait for.") }
    }

    func run(_ session: Session) throws {
        let plan = try rollout.plan()
        let namespace = namespace ?? session.namespace
        let names = words.isEmpty ? nil : try ResourceSelection(words, namespace: namespace ?? "default").names
        let request = DeleteRequest(
            files: input.files.isEmpty ? nil : try session.sources(input.files), resources: names, namespace: namespace,
            dryRun: dryRun ? true : nil, reason: reason, rollout: plan)
        let result = try session.post("/v1/delete", request, as: ChangeResult.self)
        try session.show(result, isAsJSON: output == .json, isDeletion: true)
        if waiting.wait { try session.waitUntilApplied(result, atMost: waiting.seconds(plan)) }
    }
}
