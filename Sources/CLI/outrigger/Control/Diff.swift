import ArgumentParser
import ControlAPI

struct Diff: ControlCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what files would change, or what lies between two revisions.",
        discussion: """
            EXAMPLES
              outrigger diff -f mesh/
              outrigger diff 16 17
              outrigger diff 16
              outrigger diff -f mesh/ --exit-code || echo 'the mesh is not what the files say'
            """)

    @Argument(help: ArgumentHelp("Two revisions, or one to compare with now.", valueName: "revision"))
    var revisions: [Int] = []

    @OptionGroup var input: FileOptions
    @OptionGroup var control: ControlOptions

    @Option(name: .shortAndLong, help: ArgumentHelp("The namespace of resources that name none.", valueName: "namespace"))
    var namespace: String?

    @Flag(name: .customLong("exit-code"), help: "Ends with status 1 where there are differences.")
    var exitCode = false

    @Option(name: .customShort("o"), help: ArgumentHelp("table (a unified diff) or json.", valueName: "format"))
    var output = ListOutput.table

    func validate() throws {
        guard revisions.isEmpty != input.files.isEmpty else { throw ValidationError("Name either revisions or files (-f).") }
        guard revisions.count <= 2 else { throw ValidationError("Two revisions at most.") }
        guard revisions.allSatisfy({ $0 >= 0 }) else { throw ValidationError("Revisions count from 0.") }
    }

    func run(_ session: Session) throws {
        let differences: [ResourceDifference]
        if revisions.isEmpty {
            let request = ApplyRequest(files: try session.sources(input.files), namespace: namespace ?? session.namespace)
            differences = try session.post("/v1/diff", request)
        } else {
            let to = revisions.count > 1 ? "\(revisions[1])" : nil
            differences = try session.get("/v1/diff", ["from": "\(revisions[0])", "to": to])
        }
        let changed = differences.filter { $0.change.action != .unchanged }
        if output == .json {
            try session.printJSON(changed)
        } else {
            for difference in changed { session.screen.print(Self.text(difference, session.screen)) }
            if changed.isEmpty { session.screen.note("no differences") }
        }
        if exitCode, !changed.isEmpty { throw Failure(message: "") }
    }

    static func text(_ difference: ResourceDifference, _ screen: Screen) -> String {
        let name = difference.change.resource
        let title = "\(name.kind) \(name.path) \(difference.change.action.rawValue)"
        let lines = difference.text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            let style: TextStyle =
                line.hasPrefix("+++") || line.hasPrefix("---")
                ? .bold : line.hasPrefix("+") ? .good : line.hasPrefix("-") ? .bad : line.hasPrefix("@@") ? .dim : .plain
            return screen.styled(harmless(String(line)), style)
        }
        return ([screen.styled(title, .bold)] + lines.drop { $0.isEmpty }).joined(separator: "\n")
    }
}
